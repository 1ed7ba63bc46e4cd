"""What the API answers with, as plain classes. Names and units are those of the API's description."""
