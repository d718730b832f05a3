"""Tables and words for people, in the terminal and on the page."""
