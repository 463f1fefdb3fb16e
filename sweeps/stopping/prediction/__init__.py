"""What known times predict. Apart from the rules, which are imported before numpy is."""
