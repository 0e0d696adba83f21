"""What people read: reports as HTML, their figures and wording, and MLflow."""
