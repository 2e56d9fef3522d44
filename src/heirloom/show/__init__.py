"""A saved defence to try out: attack a picture, see what the model sees; as an app and as one page."""
