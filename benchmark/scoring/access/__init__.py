"""What metrics beyond the ten have access to: any removal sets, all logits, activations, the explainer."""
