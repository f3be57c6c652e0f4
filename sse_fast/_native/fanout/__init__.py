"""Who listens to what, and the loop that hands it out."""
