-- When the conversation that `agent_session` names was begun: some agents can't take one up again in
-- the minute of its beginning. Unknown for those that were begun before this was kept.
ALTER TABLE session ADD COLUMN agent_session_begun BIGINT;

DROP VIEW session_seen;
CREATE VIEW session_seen AS
    SELECT session.*, session_head.last_seq AS last_seq
    FROM session JOIN session_head ON session_head.session_number = session.number;
