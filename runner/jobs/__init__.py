"""Jobs: their specification, states, code snapshots, and the store in Redis that holds the truth about them."""
