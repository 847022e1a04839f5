"""What pretraining and finetuning share around transformers' Trainer."""

from agssp.telemetry import switch_off

switch_off()
