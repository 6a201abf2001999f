"""What a run leaves behind: rows, histories and W&B runs."""
