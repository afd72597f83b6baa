"""Ray: connection, workers, and the queue of evaluations. The only home of ray."""
