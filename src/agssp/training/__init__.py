"""What pretraining and finetuning share around transformers' Trainer."""
