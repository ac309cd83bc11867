"""What the papers print: their tables as data, checks that a program can make of them, and their misprints."""
