"""Does a searched scheme hold? Trainings from scratch of it and of networks beside it, and what they show."""
