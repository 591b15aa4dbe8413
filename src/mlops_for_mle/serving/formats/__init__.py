"""The forms of rows and answers: JSON, MLflow's scoring protocol, tensors, schemas."""
