"""The page that shows what trained recurrent networks do with a text."""
