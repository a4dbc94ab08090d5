"""How the weights of a pack are made; nothing here is needed to refine."""
