"""The coordinator: decides which jobs run, and ends, resumes or fails them."""
