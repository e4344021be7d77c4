"""DeepFaith, the amortised explainer of "Learning for Highly Faithful Explainability" (ICLR 2026)."""
