"""Page of a report: its content as one HTML file."""
