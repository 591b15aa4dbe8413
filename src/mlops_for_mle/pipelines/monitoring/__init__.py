"""From logged predictions and labels to a judged release, a report and a decision."""
