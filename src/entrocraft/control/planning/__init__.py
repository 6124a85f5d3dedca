"""How entropy answers to what is kept, and how much to leave out for it to follow its curve."""
