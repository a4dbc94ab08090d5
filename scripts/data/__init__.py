"""Data sets as their publishers give them, brought into the layout that the jobs read."""
