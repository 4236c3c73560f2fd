"""Learning from reviews: what inspectors said of photographs, made lessons for the next version of a model."""
