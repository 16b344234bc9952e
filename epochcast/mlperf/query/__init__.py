"""Questions such as `BERT on 8 A100 GPUs` read into their fields."""
