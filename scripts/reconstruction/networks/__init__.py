"""Networks at one interface: image (B, 4, 120, 120) -> logits (B, 1, 120, 120, 120)."""
