"""What several tests share. The name is no other distribution's, so that an installed package cannot hide it."""
