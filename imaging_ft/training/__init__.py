"""Fine-tuning: from a data set to a run folder."""
