"""Which positions a written token rests on, whether attention shows them, and which map is to be believed."""
