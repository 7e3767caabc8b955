"""How well text is found."""
