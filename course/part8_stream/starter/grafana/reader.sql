-- Who sees a dashboard can send any SQL through it, so it has a user who can only read.
CREATE ROLE reader LOGIN PASSWORD 'reader';
GRANT SELECT ON waiting, predictions, dead_letters TO reader;
