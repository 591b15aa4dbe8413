-- The table as somebody else keeps it, with rows that are older than your queue.
CREATE TABLE iris_data (
    id serial PRIMARY KEY,
    timestamp timestamp DEFAULT current_timestamp,
    sepal_length float8,
    sepal_width float8,
    petal_length float8,
    petal_width float8,
    target int,
    source text NOT NULL DEFAULT 'unknown'
);

INSERT INTO iris_data (sepal_length, sepal_width, petal_length, petal_width, target, source)
VALUES
    (5.1, 3.5, 1.4, 0.2, 0, 'history'),
    (4.9, 3.0, 1.4, 0.2, 0, 'history'),
    (7.0, 3.2, 4.7, 1.4, 1, 'history'),
    (6.4, 3.2, 4.5, 1.5, 1, 'history'),
    (6.3, 3.3, 6.0, 2.5, 2, 'history'),
    (5.8, 2.7, 5.1, NULL, 2, 'history');
