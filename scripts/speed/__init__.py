"""How fast the bundle computes: plain references against its own ways, and against what the machine can do."""
