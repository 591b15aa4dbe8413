-- What each service of the stack may do with the project's tables; run as their owner by migrate.
-- What the pipelines have made is theirs: nobody else can grant anything on it.
DO $$
DECLARE
    mine record;
BEGIN
    FOR mine IN
        SELECT relname, relkind, relispartition FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND pg_get_userbyid(relowner) = current_user
        AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    LOOP
        IF mine.relkind = 'S' THEN
            EXECUTE format('GRANT USAGE ON SEQUENCE %I TO pipeline, generator, api', mine.relname);
            CONTINUE;
        END IF;
        -- The generator could read everything before.
        EXECUTE format('REVOKE SELECT ON %I FROM generator', mine.relname);
        EXECUTE format('GRANT SELECT ON %I TO pipeline, api', mine.relname);
        EXECUTE format('GRANT INSERT, UPDATE, DELETE, TRIGGER ON %I TO pipeline', mine.relname);
        -- Tables of observations have the names that contracts give them. Partitions, of predictions
        -- for example, are reached by their table.
        IF mine.relkind IN ('r', 'p') AND NOT mine.relispartition AND mine.relname NOT IN (
            'alembic_version', 'deployments', 'feedback', 'idempotency_keys', 'ingestion_batches',
            'monitoring_metrics', 'monitoring_reports', 'monitoring_runs', 'predictions', 'rejected_rows',
            'retraining_decisions', 'scoring_queue', 'scoring_rejects'
        ) THEN
            EXECUTE format('GRANT SELECT, INSERT ON %I TO generator', mine.relname);
            EXECUTE format('GRANT INSERT, UPDATE, DELETE ON %I TO api', mine.relname);
        END IF;
    END LOOP;
END
$$;
GRANT EXECUTE ON FUNCTION enqueue_for_scoring TO pipeline;
GRANT SELECT ON alembic_version TO generator;
GRANT SELECT, INSERT, UPDATE ON ingestion_batches TO generator;
GRANT INSERT ON rejected_rows TO generator;
GRANT INSERT ON deployments, predictions TO api;
GRANT INSERT, UPDATE, DELETE ON feedback, idempotency_keys TO api;
