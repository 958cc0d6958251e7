"""How chapters become a site. Knows nothing of deep learning: it reads executed notebooks."""
