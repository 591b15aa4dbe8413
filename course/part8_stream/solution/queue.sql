-- Whatever stands here may be run again on a database that has it.
CREATE TABLE IF NOT EXISTS waiting (
    row_id int PRIMARY KEY REFERENCES iris_data ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS predictions (
    row_id int PRIMARY KEY REFERENCES iris_data ON DELETE CASCADE,
    iris_class int NOT NULL,
    model text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS dead_letters (
    row_id int PRIMARY KEY REFERENCES iris_data ON DELETE CASCADE,
    reason text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE OR REPLACE FUNCTION join_the_queue() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO waiting VALUES (NEW.id); RETURN NULL; END $$;

CREATE OR REPLACE TRIGGER join_the_queue
    AFTER INSERT ON iris_data FOR EACH ROW EXECUTE FUNCTION join_the_queue();
