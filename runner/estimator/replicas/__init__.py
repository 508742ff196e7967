"""The replicas of a training in lock-step: how they meet, and how their gradients are averaged."""
