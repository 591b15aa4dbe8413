-- Consumers that start at once make the tables one after the other.
SELECT pg_advisory_xact_lock(7);

-- Step 4: the tables iris_sink and dead_letters.
