"""How good a bundle's answers are, through the real graphs and a real index. Imports no torch."""
