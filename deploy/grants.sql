-- What each service of the stack may do with the project's tables; run as their owner by migrate.
-- The generator could read everything before.
REVOKE SELECT ON ALL TABLES IN SCHEMA public FROM generator;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO pipeline, api;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO pipeline, generator, api;
GRANT INSERT, UPDATE, DELETE, TRIGGER ON ALL TABLES IN SCHEMA public TO pipeline;
GRANT EXECUTE ON FUNCTION enqueue_for_scoring TO pipeline;
GRANT SELECT ON alembic_version TO generator;
GRANT SELECT, INSERT, UPDATE ON ingestion_batches TO generator;
GRANT INSERT ON rejected_rows TO generator;
GRANT INSERT ON deployments, predictions TO api;
GRANT INSERT, UPDATE, DELETE ON feedback, idempotency_keys TO api;
-- Tables of observations have the names that contracts give them.
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT tablename FROM pg_tables
        WHERE schemaname = 'public' AND tableowner = current_user
        AND tablename NOT IN (
            'alembic_version', 'deployments', 'feedback', 'idempotency_keys', 'ingestion_batches',
            'monitoring_metrics', 'monitoring_reports', 'monitoring_runs', 'predictions', 'rejected_rows',
            'retraining_decisions', 'scoring_queue', 'scoring_rejects'
        )
    LOOP
        EXECUTE format('GRANT SELECT, INSERT ON %I TO generator', name);
        EXECUTE format('GRANT INSERT, UPDATE, DELETE ON %I TO api', name);
    END LOOP;
END
$$;
