"""Files of labels that are not read: what they are, and what to do with them."""

from agssp.data.readers.listing import Listing


def unread_labels(listing: Listing) -> list[tuple[str, str]]:
    """Files of a folder that look like labels in a form that is not read, and what each is."""
    return []


def what_lies_there(listing: Listing) -> str:
    """Files of a folder that look like labels, and how to give each; empty where there are none."""
    return ""
