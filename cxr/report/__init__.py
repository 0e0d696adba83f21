"""What people read: reports as HTML and their figures; and runs logged to MLflow."""
