"""The rules of winners and of control flow, one file a family."""
