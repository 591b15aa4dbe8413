-- Consumers that start at once make the tables one after the other.
SELECT pg_advisory_xact_lock(7);

CREATE TABLE IF NOT EXISTS iris_sink (
    topic text,
    partition int,
    "offset" bigint,
    id int,
    sepal_length float8,
    sepal_width float8,
    petal_length float8,
    petal_width float8,
    target int,
    PRIMARY KEY (topic, partition, "offset")
);

CREATE TABLE IF NOT EXISTS dead_letters (
    topic text,
    partition int,
    "offset" bigint,
    value bytea,
    reason text NOT NULL,
    PRIMARY KEY (topic, partition, "offset")
);
