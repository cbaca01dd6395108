"""What a run leaves for use: its model's file, read back, predicted with and written in other formats."""
