"""What a training run is made of: batches, schedules, averages, validation, checkpoints."""
