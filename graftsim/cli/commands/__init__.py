"""What each command is called with. They import what they do it with when they run, so that help is quick."""
