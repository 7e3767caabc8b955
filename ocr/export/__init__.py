"""A trained model as one file that leaves the house, with a card; needs no Lightning."""
