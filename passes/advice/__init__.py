"""Ways to lower the peak of a program, each verified by analysing what it makes of it."""
