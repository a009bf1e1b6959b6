PRAGMA page_size = 8192; PRAGMA application_id = 1147235411; PRAGMA user_version = 1;
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES('epoch',1);
INSERT INTO meta VALUES('journal_id','0ad07b42a921fcc4a4d77c01855cafd0');
INSERT INTO meta VALUES('secret',X'c7709bbda249e3cd8728343b8cee034b60308162313aa4717327fb65c7b22fc6');
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    issue_id TEXT,
    identifier TEXT,
    run TEXT,
    format INTEGER NOT NULL,
    data TEXT NOT NULL
) STRICT;
INSERT INTO events VALUES(1,1001,'daemon_started',NULL,NULL,NULL,1,'{"kind":"daemon_started","epoch":1,"version":"0.1.0","pid":4711}');
INSERT INTO events VALUES(2,1002,'workflow_loaded',NULL,NULL,NULL,1,'{"kind":"workflow_loaded","hash":"5ha256","policy":{"project_dir":"/project","tracker":{"kind":"local","provider":{"depth":2,"path":"issues"},"required_labels":["agent"],"active_states":["Todo"],"terminal_states":["Done"]},"poll_interval_ms":30000,"workspace":{"root":"/work/spaces","strategy":"clone","repo":"/project","base":null,"branch":"dalsegno/{{ issue.identifier }}"},"hooks":{"after_create":"make","before_run":null,"after_run":null,"before_remove":null,"timeout_ms":60000},"agent":{"kind":"scripted","command":null,"script":"/project/agent.yaml","max_concurrent_agents":10,"max_turns":20,"max_retry_backoff_ms":300000,"max_concurrent_agents_by_state":{"todo":2},"turn_timeout_ms":3600000,"read_timeout_ms":5000,"stall_timeout_ms":-1,"model":null,"sandbox":"none","sandbox_network":"all","sandbox_write":[],"codex":{"approval_policy":null,"thread_sandbox":null,"turn_sandbox_policy":null}},"handoff":{"remote":"origin","checks":["./test"],"check_timeout_ms":600000,"commit":"auto","claim_state":"In Progress","state":"Human Review","comment":"Pushed {{ branch }}"},"budget":{"issue_runs":20,"issue":{"tokens":null,"cost_nanousd":null,"turns":null,"wall_clock_ms":null},"day":{"tokens":null,"cost_nanousd":null,"turns":null,"wall_clock_ms":null},"prices":{}},"breaker":{"same_failure":3,"no_progress_turns":5,"cooldown_ms":1800000},"quota":{"resume_at_reset":true},"auto_approve":"workspace","prompt_template":"Do {{ issue.title }}."}}');
INSERT INTO events VALUES(3,1003,'tracker_health',NULL,NULL,NULL,1,'{"kind":"tracker_health","failure":{"code":"tracker_request","message":"no answer within 5 s","hint":"look at the network","retryable":true}}');
INSERT INTO events VALUES(4,1004,'tracker_health',NULL,NULL,NULL,1,'{"kind":"tracker_health","failure":null}');
INSERT INTO events VALUES(5,1005,'issue_seen','i1','DS-1',NULL,1,'{"kind":"issue_seen","issue":{"id":"i1","native_ref":null,"identifier":"DS-1","title":"The title of DS-1","description":"Words, “quoted”, and a\nnew line.","priority":2,"state":"Todo","branch_name":null,"url":null,"assignee_id":null,"labels":["backend"],"blocked_by":[],"parent":null,"dispatchable":true,"undispatchable_reason":null,"created_at":5,"updated_at":null}}');
INSERT INTO events VALUES(6,1006,'issue_changed','i1','DS-1',NULL,1,'{"kind":"issue_changed","issue":{"id":"i1","native_ref":null,"identifier":"DS-1","title":"The title of DS-1","description":"Words, “quoted”, and a\nnew line.","priority":2,"state":"Todo","branch_name":null,"url":null,"assignee_id":null,"labels":["backend"],"blocked_by":[],"parent":null,"dispatchable":true,"undispatchable_reason":null,"created_at":5,"updated_at":null}}');
INSERT INTO events VALUES(7,1007,'issue_status','i1','DS-1',NULL,1,'{"kind":"issue_status","issue":"i1","from":"idle","to":"queued","reason":null,"due_at":null}');
INSERT INTO events VALUES(8,1008,'issue_status','i1','DS-1',NULL,1,'{"kind":"issue_status","issue":"i1","from":"queued","to":"running","reason":null,"due_at":null}');
INSERT INTO events VALUES(9,1009,'run_started','i1','DS-1','run-1',1,'{"kind":"run_started","run":"run-1","issue":"i1","attempt":1,"policy":"5ha256"}');
INSERT INTO events VALUES(10,1010,'effect_intended','i1','DS-1','run-1',1,'{"kind":"effect_intended","effect_id":1,"issue":"i1","run":"run-1","key":"run-1/1/1","attempt":1,"effect":{"kind":"prepare_workspace","fresh":false}}');
INSERT INTO events VALUES(11,1011,'effect_ended','i1','DS-1','run-1',1,'{"kind":"effect_ended","effect_id":1,"issue":"i1","run":"run-1","outcome":{"result":"done","output":{"output":"workspace_ready","workspace":{"path":"/work/spaces/DS-1","branch":"dalsegno/DS-1","base_commit":"b45e"},"created":true}},"probed":false}');
INSERT INTO events VALUES(12,1012,'workspace_ready','i1','DS-1','run-1',1,'{"kind":"workspace_ready","issue":"i1","run":"run-1","workspace":{"path":"/work/spaces/DS-1","branch":"dalsegno/DS-1","base_commit":"b45e"},"created":true}');
INSERT INTO events VALUES(13,1013,'run_phase','i1','DS-1','run-1',1,'{"kind":"run_phase","run":"run-1","phase":{"name":"after_create"}}');
INSERT INTO events VALUES(14,1014,'hook_ended','i1','DS-1','run-1',1,'{"kind":"hook_ended","issue":"i1","run":"run-1","hook":"after_create","failure":{"code":"tracker_request","message":"no answer within 5 s","hint":"look at the network","retryable":true}}');
INSERT INTO events VALUES(15,1015,'run_phase','i1','DS-1','run-1',1,'{"kind":"run_phase","run":"run-1","phase":{"name":"launching"}}');
INSERT INTO events VALUES(16,1016,'session_started','i1','DS-1','run-1',1,'{"kind":"session_started","run":"run-1","session":"s-1"}');
INSERT INTO events VALUES(17,1017,'run_phase','i1','DS-1','run-1',1,'{"kind":"run_phase","run":"run-1","phase":{"name":"prompting"}}');
INSERT INTO events VALUES(18,1018,'effect_intended','i1','DS-1','run-1',1,'{"kind":"effect_intended","effect_id":2,"issue":"i1","run":"run-1","key":"run-1/2/1","attempt":1,"effect":{"kind":"prompt","turn":1,"prompt":{"kind":"first","attempt":1}}}');
INSERT INTO events VALUES(19,1019,'turn_started','i1','DS-1','run-1',1,'{"kind":"turn_started","run":"run-1","turn":1,"repeated":false}');
INSERT INTO events VALUES(20,1020,'usage','i1','DS-1','run-1',1,'{"kind":"usage","run":"run-1","turn":1,"usage":{"input_tokens":1200,"cached_input_tokens":0,"output_tokens":80,"total_tokens":1280}}');
INSERT INTO events VALUES(21,1021,'effect_ended','i1','DS-1','run-1',1,'{"kind":"effect_ended","effect_id":2,"issue":"i1","run":"run-1","outcome":{"result":"done","output":{"output":"turn_ended","turn":{"outcome":"completed"},"usage":{"input_tokens":1200,"cached_input_tokens":0,"output_tokens":80,"total_tokens":1280},"summary":"done","model":"m-1","tool_digest":"0f"}},"probed":false}');
INSERT INTO events VALUES(22,1022,'turn_ended','i1','DS-1','run-1',1,'{"kind":"turn_ended","run":"run-1","turn":1,"outcome":"completed","summary":"done","cut":false}');
INSERT INTO events VALUES(23,1023,'run_phase','i1','DS-1','run-1',1,'{"kind":"run_phase","run":"run-1","phase":{"name":"checking","index":0}}');
INSERT INTO events VALUES(24,1024,'check_ended','i1','DS-1','run-1',1,'{"kind":"check_ended","run":"run-1","commit":"c0ff","command":"./test","passed":true}');
INSERT INTO events VALUES(25,1025,'saga_started','i1','DS-1','run-1',1,'{"kind":"saga_started","run":"run-1","commit":"c0ff","evidence":"./test passed"}');
INSERT INTO events VALUES(26,1026,'run_phase','i1','DS-1','run-1',1,'{"kind":"run_phase","run":"run-1","phase":{"name":"delivering"}}');
INSERT INTO events VALUES(27,1027,'saga_step','i1','DS-1','run-1',1,'{"kind":"saga_step","run":"run-1","step":"push","state":{"state":"intended"}}');
INSERT INTO events VALUES(28,1028,'effect_intended','i1','DS-1','run-1',1,'{"kind":"effect_intended","effect_id":3,"issue":"i1","run":"run-1","key":"run-1/3/1","attempt":1,"effect":{"kind":"push_branch","commit":"c0ff","expected":null}}');
CREATE TABLE names (
    key TEXT NOT NULL,
    issue_id TEXT NOT NULL,
    PRIMARY KEY (key, issue_id)
) STRICT, WITHOUT ROWID;
INSERT INTO names VALUES('ds-1','i1');
INSERT INTO names VALUES('i1','i1');
CREATE TABLE issues (
    id TEXT PRIMARY KEY,
    id_key TEXT NOT NULL,
    identifier TEXT NOT NULL,
    identifier_key TEXT NOT NULL,
    status TEXT NOT NULL,
    data TEXT NOT NULL
) STRICT;
INSERT INTO issues VALUES('i1','i1','DS-1','ds-1','running','{"issue":{"id":"i1","native_ref":null,"identifier":"DS-1","title":"The title of DS-1","description":"Words, “quoted”, and a\nnew line.","priority":2,"state":"Todo","branch_name":null,"url":null,"assignee_id":null,"labels":["backend"],"blocked_by":[],"parent":null,"dispatchable":true,"undispatchable_reason":null,"created_at":5,"updated_at":null},"status":"running","reason":null,"attempt":1,"due_at":null,"workspace":{"path":"/work/spaces/DS-1","branch":"dalsegno/DS-1","base_commit":"b45e"},"current_run":"run-1","last_run":"run-1","handed_off":null,"usage":{"input_tokens":1200,"cached_input_tokens":0,"output_tokens":80,"total_tokens":1280},"seen_at":1005,"changed_at":1028}');
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    issue_id TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    data TEXT NOT NULL
) STRICT;
INSERT INTO runs VALUES('run-1','i1',1009,NULL,'{"id":"run-1","issue":"i1","identifier":"DS-1","attempt":1,"policy":"5ha256","phase":{"name":"delivering"},"outcome":null,"reason":null,"evidence":"./test passed","session":"s-1","turns":1,"cut_turns":0,"handoff":{"commit":"c0ff","steps":[["push",{"state":"intended"}],["comment",{"state":"pending"}],["move",{"state":"pending"}]],"failures":[]},"usage":{"input_tokens":1200,"cached_input_tokens":0,"output_tokens":80,"total_tokens":1280},"started_at":1009,"ended_at":null}');
CREATE TABLE daemon (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    data TEXT NOT NULL
) STRICT;
INSERT INTO daemon VALUES(1,'{"epoch":1,"policy":"5ha256","workflow_failure":null,"tracker_failure":null,"usage":{"input_tokens":1200,"cached_input_tokens":0,"output_tokens":80,"total_tokens":1280},"run_ms":0}');
CREATE TABLE snapshots (
    seq INTEGER PRIMARY KEY,
    format INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    data BLOB NOT NULL
) STRICT;
INSERT INTO snapshots VALUES(15,1,'563282a5dbaa9303ebc5d51dceccbda8e6ed6e1e31303817527fd49200cc8055',X'7b22666f726d6174223a312c227374617465223a7b22736571223a31352c226174223a313031352c2265706f6368223a312c22706f6c696379223a22356861323536222c22706f6c6963696573223a7b22356861323536223a7b2270726f6a6563745f646972223a222f70726f6a656374222c22747261636b6572223a7b226b696e64223a226c6f63616c222c2270726f7669646572223a7b226465707468223a322c2270617468223a22697373756573227d2c2272657175697265645f6c6162656c73223a5b226167656e74225d2c226163746976655f737461746573223a5b22546f646f225d2c227465726d696e616c5f737461746573223a5b22446f6e65225d7d2c22706f6c6c5f696e74657276616c5f6d73223a33303030302c22776f726b7370616365223a7b22726f6f74223a222f776f726b2f737061636573222c227374726174656779223a22636c6f6e65222c227265706f223a222f70726f6a656374222c2262617365223a6e756c6c2c226272616e6368223a2264616c7365676e6f2f7b7b2069737375652e6964656e746966696572207d7d227d2c22686f6f6b73223a7b2261667465725f637265617465223a226d616b65222c226265666f72655f72756e223a6e756c6c2c2261667465725f72756e223a6e756c6c2c226265666f72655f72656d6f7665223a6e756c6c2c2274696d656f75745f6d73223a36303030307d2c226167656e74223a7b226b696e64223a227363726970746564222c22636f6d6d616e64223a6e756c6c2c22736372697074223a222f70726f6a6563742f6167656e742e79616d6c222c226d61785f636f6e63757272656e745f6167656e7473223a31302c226d61785f7475726e73223a32302c226d61785f72657472795f6261636b6f66665f6d73223a3330303030302c226d61785f636f6e63757272656e745f6167656e74735f62795f7374617465223a7b22746f646f223a327d2c227475726e5f74696d656f75745f6d73223a333630303030302c22726561645f74696d656f75745f6d73223a353030302c227374616c6c5f74696d656f75745f6d73223a2d312c226d6f64656c223a6e756c6c2c2273616e64626f78223a226e6f6e65222c2273616e64626f785f6e6574776f726b223a22616c6c222c2273616e64626f785f7772697465223a5b5d2c22636f646578223a7b22617070726f76616c5f706f6c696379223a6e756c6c2c227468726561645f73616e64626f78223a6e756c6c2c227475726e5f73616e64626f785f706f6c696379223a6e756c6c7d7d2c2268616e646f6666223a7b2272656d6f7465223a226f726967696e222c22636865636b73223a5b222e2f74657374225d2c22636865636b5f74696d656f75745f6d73223a3630303030302c22636f6d6d6974223a226175746f222c22636c61696d5f7374617465223a22496e2050726f6772657373222c227374617465223a2248756d616e20526576696577222c22636f6d6d656e74223a22507573686564207b7b206272616e6368207d7d227d2c22627564676574223a7b2269737375655f72756e73223a32302c226973737565223a7b22746f6b656e73223a6e756c6c2c22636f73745f6e616e6f757364223a6e756c6c2c227475726e73223a6e756c6c2c2277616c6c5f636c6f636b5f6d73223a6e756c6c7d2c22646179223a7b22746f6b656e73223a6e756c6c2c22636f73745f6e616e6f757364223a6e756c6c2c227475726e73223a6e756c6c2c2277616c6c5f636c6f636b5f6d73223a6e756c6c7d2c22707269636573223a7b7d7d2c22627265616b6572223a7b2273616d655f6661696c757265223a332c226e6f5f70726f67726573735f7475726e73223a352c22636f6f6c646f776e5f6d73223a313830303030307d2c2271756f7461223a7b22726573756d655f61745f7265736574223a747275657d2c226175746f5f617070726f7665223a22776f726b7370616365222c2270726f6d70745f74656d706c617465223a22446f207b7b2069737375652e7469746c65207d7d2e227d7d2c22776f726b666c6f775f6661696c757265223a6e756c6c2c22747261636b65725f6661696c757265223a6e756c6c2c22697373756573223a7b226931223a7b226973737565223a7b226964223a226931222c226e61746976655f726566223a6e756c6c2c226964656e746966696572223a2244532d31222c227469746c65223a22546865207469746c65206f662044532d31222c226465736372697074696f6e223a22576f7264732c20e2809c71756f746564e2809d2c20616e6420615c6e6e6577206c696e652e222c227072696f72697479223a322c227374617465223a22546f646f222c226272616e63685f6e616d65223a6e756c6c2c2275726c223a6e756c6c2c2261737369676e65655f6964223a6e756c6c2c226c6162656c73223a5b226261636b656e64225d2c22626c6f636b65645f6279223a5b5d2c22706172656e74223a6e756c6c2c22646973706174636861626c65223a747275652c22756e646973706174636861626c655f726561736f6e223a6e756c6c2c22637265617465645f6174223a352c22757064617465645f6174223a6e756c6c7d2c22737461747573223a2272756e6e696e67222c22726561736f6e223a6e756c6c2c22617474656d7074223a312c2272756e73223a312c2263757272656e745f72756e223a2272756e2d31222c226c6173745f72756e223a2272756e2d31222c226475655f6174223a6e756c6c2c22776f726b7370616365223a7b2270617468223a222f776f726b2f7370616365732f44532d31222c226272616e6368223a2264616c7365676e6f2f44532d31222c22626173655f636f6d6d6974223a2262343565227d2c22776f726b73706163655f77686f6c65223a66616c73652c22776f726b73706163655f756e73757265223a66616c73652c22776f726b73706163655f6b657074223a66616c73652c226272616e6368223a2264616c7365676e6f2f44532d31222c2268616e6465645f6f6666223a6e756c6c2c22756e737572655f6d6f7665223a6e756c6c2c22736574746c6564223a6e756c6c2c227573616765223a7b22696e7075745f746f6b656e73223a302c226361636865645f696e7075745f746f6b656e73223a302c226f75747075745f746f6b656e73223a302c22746f74616c5f746f6b656e73223a307d2c227365656e5f6174223a313030357d7d2c22676f6e65223a7b7d2c2272756e73223a7b2272756e2d31223a7b226964223a2272756e2d31222c226973737565223a226931222c22617474656d7074223a312c22706f6c696379223a22356861323536222c227068617365223a7b226e616d65223a226c61756e6368696e67227d2c22656e64696e67223a6e756c6c2c226f7574636f6d65223a6e756c6c2c22726561736f6e223a6e756c6c2c2265766964656e6365223a6e756c6c2c2273657373696f6e223a6e756c6c2c226174746163686564223a66616c73652c227475726e223a302c22636f756e7465645f7475726e73223a302c227475726e5f6f70656e223a66616c73652c226e6578745f70726f6d7074223a6e756c6c2c2263616e646964617465223a6e756c6c2c226375745f7475726e73223a302c22646f75627473223a302c227377656570696e67223a66616c73652c2268616e646f6666223a6e756c6c2c227573616765223a7b22696e7075745f746f6b656e73223a302c226361636865645f696e7075745f746f6b656e73223a302c226f75747075745f746f6b656e73223a302c22746f74616c5f746f6b656e73223a307d2c227475726e5f7573616765223a7b22696e7075745f746f6b656e73223a302c226361636865645f696e7075745f746f6b656e73223a302c226f75747075745f746f6b656e73223a302c22746f74616c5f746f6b656e73223a307d2c22737461727465645f6174223a313030392c22656e6465645f6174223a6e756c6c7d7d2c226f70656e5f65666665637473223a7b7d2c2272756e5f636f756e74223a312c226566666563745f636f756e74223a312c227573616765223a7b22696e7075745f746f6b656e73223a302c226361636865645f696e7075745f746f6b656e73223a302c226f75747075745f746f6b656e73223a302c22746f74616c5f746f6b656e73223a307d2c2272756e5f6d73223a307d7d');
CREATE INDEX events_by_issue ON events (issue_id) WHERE issue_id IS NOT NULL;
CREATE INDEX events_by_run ON events (run) WHERE run IS NOT NULL;
CREATE INDEX events_by_kind ON events (kind);
CREATE INDEX issues_by_id_key ON issues (id_key);
CREATE INDEX issues_by_identifier ON issues (identifier_key);
CREATE INDEX issues_by_status ON issues (status, identifier_key);
CREATE INDEX runs_by_start ON runs (started_at);
CREATE INDEX runs_by_issue ON runs (issue_id, started_at);
CREATE INDEX runs_by_end ON runs (ended_at) WHERE ended_at IS NOT NULL;
COMMIT;
