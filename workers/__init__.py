"""What runs on a worker machine: the Celery app, its tasks, supervisors, and training processes."""
