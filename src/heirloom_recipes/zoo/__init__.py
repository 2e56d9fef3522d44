"""Small defended models of several data sets, made by one command and compared on one page."""
