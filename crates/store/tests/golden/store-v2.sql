PRAGMA page_size = 8192; PRAGMA application_id = 1147235411; PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE daemon (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    data TEXT NOT NULL
) STRICT;
INSERT INTO "daemon" VALUES(1,'{"epoch":1,"policy":"5ha256","workflow_failure":null,"tracker_failure":null,"usage":{"input_tokens":1200,"cached_input_tokens":0,"output_tokens":80,"total_tokens":1280},"run_ms":0}');
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
INSERT INTO "events" VALUES(1,1001,'daemon_started',NULL,NULL,NULL,1,'{"kind":"daemon_started","epoch":1,"version":"0.1.0","pid":4711}');
INSERT INTO "events" VALUES(2,1002,'workflow_loaded',NULL,NULL,NULL,1,'{"kind":"workflow_loaded","hash":"5ha256","policy":{"project_dir":"/project","tracker":{"kind":"local","provider":{"depth":2,"path":"issues"},"required_labels":["agent"],"active_states":["Todo"],"terminal_states":["Done"]},"poll_interval_ms":30000,"workspace":{"root":"/work/spaces","strategy":"clone","repo":"/project","base":null,"branch":"dalsegno/{{ issue.identifier }}"},"hooks":{"after_create":"make","before_run":null,"after_run":null,"before_remove":null,"timeout_ms":60000},"agent":{"kind":"scripted","command":null,"script":"/project/agent.yaml","max_concurrent_agents":10,"max_turns":20,"max_retry_backoff_ms":300000,"max_concurrent_agents_by_state":{"todo":2},"turn_timeout_ms":3600000,"read_timeout_ms":5000,"stall_timeout_ms":-1,"model":null,"sandbox":"none","sandbox_network":"all","sandbox_write":[],"codex":{"approval_policy":null,"thread_sandbox":null,"turn_sandbox_policy":null}},"handoff":{"remote":"origin","checks":["./test"],"check_timeout_ms":600000,"commit":"auto","claim_state":"In Progress","state":"Human Review","comment":"Pushed {{ branch }}"},"budget":{"issue_runs":20,"issue":{"tokens":null,"cost_nanousd":null,"turns":null,"wall_clock_ms":null},"day":{"tokens":null,"cost_nanousd":null,"turns":null,"wall_clock_ms":null},"prices":{}},"breaker":{"same_failure":3,"no_progress_turns":5,"cooldown_ms":1800000},"quota":{"resume_at_reset":true},"auto_approve":"workspace","prompt_template":"Do {{ issue.title }}."}}');
INSERT INTO "events" VALUES(3,1003,'tracker_health',NULL,NULL,NULL,1,'{"kind":"tracker_health","failure":{"code":"tracker_request","message":"no answer within 5 s","hint":"look at the network","retryable":true}}');
INSERT INTO "events" VALUES(4,1004,'tracker_health',NULL,NULL,NULL,1,'{"kind":"tracker_health","failure":null}');
INSERT INTO "events" VALUES(5,1005,'issue_seen','i1','DS-1',NULL,1,'{"kind":"issue_seen","issue":{"id":"i1","native_ref":null,"identifier":"DS-1","title":"The title of DS-1","description":"Words, “quoted”, and a\nnew line.","priority":2,"state":"Todo","branch_name":null,"url":null,"assignee_id":null,"labels":["backend"],"blocked_by":[],"parent":null,"dispatchable":true,"undispatchable_reason":null,"created_at":5,"updated_at":null}}');
INSERT INTO "events" VALUES(6,1006,'issue_changed','i1','DS-1',NULL,1,'{"kind":"issue_changed","issue":{"id":"i1","native_ref":null,"identifier":"DS-1","title":"The title of DS-1","description":"Words, “quoted”, and a\nnew line.","priority":2,"state":"Todo","branch_name":null,"url":null,"assignee_id":null,"labels":["backend"],"blocked_by":[],"parent":null,"dispatchable":true,"undispatchable_reason":null,"created_at":5,"updated_at":null}}');
INSERT INTO "events" VALUES(7,1007,'issue_status','i1','DS-1',NULL,1,'{"kind":"issue_status","issue":"i1","from":"idle","to":"queued","reason":null,"due_at":null}');
INSERT INTO "events" VALUES(8,1008,'issue_status','i1','DS-1',NULL,1,'{"kind":"issue_status","issue":"i1","from":"queued","to":"running","reason":null,"due_at":null}');
INSERT INTO "events" VALUES(9,1009,'run_started','i1','DS-1','run-1',1,'{"kind":"run_started","run":"run-1","issue":"i1","attempt":1,"policy":"5ha256"}');
INSERT INTO "events" VALUES(10,1010,'effect_intended','i1','DS-1','run-1',1,'{"kind":"effect_intended","effect_id":1,"issue":"i1","run":"run-1","key":"run-1/1/1","attempt":1,"effect":{"kind":"prepare_workspace","fresh":false}}');
INSERT INTO "events" VALUES(11,1011,'effect_ended','i1','DS-1','run-1',1,'{"kind":"effect_ended","effect_id":1,"issue":"i1","run":"run-1","outcome":{"result":"done","output":{"output":"workspace_ready","workspace":{"path":"/work/spaces/DS-1","branch":"dalsegno/DS-1","base_commit":"b45e"},"created":true}},"probed":false}');
INSERT INTO "events" VALUES(12,1012,'workspace_ready','i1','DS-1','run-1',1,'{"kind":"workspace_ready","issue":"i1","run":"run-1","workspace":{"path":"/work/spaces/DS-1","branch":"dalsegno/DS-1","base_commit":"b45e"},"created":true}');
INSERT INTO "events" VALUES(13,1013,'run_phase','i1','DS-1','run-1',1,'{"kind":"run_phase","run":"run-1","phase":{"name":"after_create"}}');
INSERT INTO "events" VALUES(14,1014,'hook_ended','i1','DS-1','run-1',1,'{"kind":"hook_ended","issue":"i1","run":"run-1","hook":"after_create","failure":{"code":"tracker_request","message":"no answer within 5 s","hint":"look at the network","retryable":true}}');
INSERT INTO "events" VALUES(15,1015,'run_phase','i1','DS-1','run-1',1,'{"kind":"run_phase","run":"run-1","phase":{"name":"launching"}}');
INSERT INTO "events" VALUES(16,1016,'session_started','i1','DS-1','run-1',1,'{"kind":"session_started","run":"run-1","session":"s-1"}');
INSERT INTO "events" VALUES(17,1017,'run_phase','i1','DS-1','run-1',1,'{"kind":"run_phase","run":"run-1","phase":{"name":"prompting"}}');
INSERT INTO "events" VALUES(18,1018,'effect_intended','i1','DS-1','run-1',1,'{"kind":"effect_intended","effect_id":2,"issue":"i1","run":"run-1","key":"run-1/2/1","attempt":1,"effect":{"kind":"prompt","turn":1,"prompt":{"kind":"first","attempt":1}}}');
INSERT INTO "events" VALUES(19,1019,'turn_started','i1','DS-1','run-1',1,'{"kind":"turn_started","run":"run-1","turn":1,"repeated":false}');
INSERT INTO "events" VALUES(20,1020,'usage','i1','DS-1','run-1',1,'{"kind":"usage","run":"run-1","turn":1,"usage":{"input_tokens":1200,"cached_input_tokens":0,"output_tokens":80,"total_tokens":1280}}');
INSERT INTO "events" VALUES(21,1021,'effect_ended','i1','DS-1','run-1',1,'{"kind":"effect_ended","effect_id":2,"issue":"i1","run":"run-1","outcome":{"result":"done","output":{"output":"turn_ended","turn":{"outcome":"completed"},"usage":{"input_tokens":1200,"cached_input_tokens":0,"output_tokens":80,"total_tokens":1280},"summary":"done","model":"m-1","tool_digest":"0f"}},"probed":false}');
INSERT INTO "events" VALUES(22,1022,'turn_ended','i1','DS-1','run-1',1,'{"kind":"turn_ended","run":"run-1","turn":1,"outcome":"completed","summary":"done","cut":false}');
INSERT INTO "events" VALUES(23,1023,'run_phase','i1','DS-1','run-1',1,'{"kind":"run_phase","run":"run-1","phase":{"name":"checking","index":0}}');
INSERT INTO "events" VALUES(24,1024,'check_ended','i1','DS-1','run-1',1,'{"kind":"check_ended","run":"run-1","commit":"c0ff","command":"./test","passed":true}');
INSERT INTO "events" VALUES(25,1025,'saga_started','i1','DS-1','run-1',1,'{"kind":"saga_started","run":"run-1","commit":"c0ff","evidence":"./test passed"}');
INSERT INTO "events" VALUES(26,1026,'run_phase','i1','DS-1','run-1',1,'{"kind":"run_phase","run":"run-1","phase":{"name":"delivering"}}');
INSERT INTO "events" VALUES(27,1027,'saga_step','i1','DS-1','run-1',1,'{"kind":"saga_step","run":"run-1","step":"push","state":{"state":"intended"}}');
INSERT INTO "events" VALUES(28,1028,'effect_intended','i1','DS-1','run-1',1,'{"kind":"effect_intended","effect_id":3,"issue":"i1","run":"run-1","key":"run-1/3/1","attempt":1,"effect":{"kind":"push_branch","commit":"c0ff","expected":null}}');
INSERT INTO "events" VALUES(29,9999,'daemon_stopped',NULL,NULL,NULL,2,'{"kind":"daemon_stopped","reason":"number 29"}');
CREATE TABLE issues (
    id TEXT PRIMARY KEY,
    id_key TEXT NOT NULL,
    identifier TEXT NOT NULL,
    identifier_key TEXT NOT NULL,
    status TEXT NOT NULL,
    data TEXT NOT NULL
) STRICT;
INSERT INTO "issues" VALUES('i1','i1','DS-1','ds-1','running','{"issue":{"id":"i1","native_ref":null,"identifier":"DS-1","title":"The title of DS-1","description":"Words, “quoted”, and a\nnew line.","priority":2,"state":"Todo","branch_name":null,"url":null,"assignee_id":null,"labels":["backend"],"blocked_by":[],"parent":null,"dispatchable":true,"undispatchable_reason":null,"created_at":5,"updated_at":null},"status":"running","reason":null,"attempt":1,"due_at":null,"workspace":{"path":"/work/spaces/DS-1","branch":"dalsegno/DS-1","base_commit":"b45e"},"current_run":"run-1","last_run":"run-1","handed_off":null,"usage":{"input_tokens":1200,"cached_input_tokens":0,"output_tokens":80,"total_tokens":1280},"seen_at":1005,"changed_at":1028}');
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "meta" VALUES('epoch',1);
INSERT INTO "meta" VALUES('journal_id','0ad07b42a921fcc4a4d77c01855cafd0');
INSERT INTO "meta" VALUES('secret',X'C7709BBDA249E3CD8728343B8CEE034B60308162313AA4717327FB65C7B22FC6');
CREATE TABLE names (
    key TEXT NOT NULL,
    issue_id TEXT NOT NULL,
    PRIMARY KEY (key, issue_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "names" VALUES('ds-1','i1');
INSERT INTO "names" VALUES('i1','i1');
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    issue_id TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    data TEXT NOT NULL
) STRICT;
INSERT INTO "runs" VALUES('run-1','i1',1009,NULL,'{"id":"run-1","issue":"i1","identifier":"DS-1","attempt":1,"policy":"5ha256","phase":{"name":"delivering"},"outcome":null,"reason":null,"evidence":"./test passed","session":"s-1","turns":1,"cut_turns":0,"handoff":{"commit":"c0ff","steps":[["push",{"state":"intended"}],["comment",{"state":"pending"}],["move",{"state":"pending"}]],"failures":[]},"usage":{"input_tokens":1200,"cached_input_tokens":0,"output_tokens":80,"total_tokens":1280},"started_at":1009,"ended_at":null}');
CREATE TABLE snapshots (
    seq INTEGER PRIMARY KEY,
    format INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    data BLOB NOT NULL
) STRICT;
INSERT INTO "snapshots" VALUES(15,1,'563282a5dbaa9303ebc5d51dceccbda8e6ed6e1e31303817527fd49200cc8055',X'7B22666F726D6174223A312C227374617465223A7B22736571223A31352C226174223A313031352C2265706F6368223A312C22706F6C696379223A22356861323536222C22706F6C6963696573223A7B22356861323536223A7B2270726F6A6563745F646972223A222F70726F6A656374222C22747261636B6572223A7B226B696E64223A226C6F63616C222C2270726F7669646572223A7B226465707468223A322C2270617468223A22697373756573227D2C2272657175697265645F6C6162656C73223A5B226167656E74225D2C226163746976655F737461746573223A5B22546F646F225D2C227465726D696E616C5F737461746573223A5B22446F6E65225D7D2C22706F6C6C5F696E74657276616C5F6D73223A33303030302C22776F726B7370616365223A7B22726F6F74223A222F776F726B2F737061636573222C227374726174656779223A22636C6F6E65222C227265706F223A222F70726F6A656374222C2262617365223A6E756C6C2C226272616E6368223A2264616C7365676E6F2F7B7B2069737375652E6964656E746966696572207D7D227D2C22686F6F6B73223A7B2261667465725F637265617465223A226D616B65222C226265666F72655F72756E223A6E756C6C2C2261667465725F72756E223A6E756C6C2C226265666F72655F72656D6F7665223A6E756C6C2C2274696D656F75745F6D73223A36303030307D2C226167656E74223A7B226B696E64223A227363726970746564222C22636F6D6D616E64223A6E756C6C2C22736372697074223A222F70726F6A6563742F6167656E742E79616D6C222C226D61785F636F6E63757272656E745F6167656E7473223A31302C226D61785F7475726E73223A32302C226D61785F72657472795F6261636B6F66665F6D73223A3330303030302C226D61785F636F6E63757272656E745F6167656E74735F62795F7374617465223A7B22746F646F223A327D2C227475726E5F74696D656F75745F6D73223A333630303030302C22726561645F74696D656F75745F6D73223A353030302C227374616C6C5F74696D656F75745F6D73223A2D312C226D6F64656C223A6E756C6C2C2273616E64626F78223A226E6F6E65222C2273616E64626F785F6E6574776F726B223A22616C6C222C2273616E64626F785F7772697465223A5B5D2C22636F646578223A7B22617070726F76616C5F706F6C696379223A6E756C6C2C227468726561645F73616E64626F78223A6E756C6C2C227475726E5F73616E64626F785F706F6C696379223A6E756C6C7D7D2C2268616E646F6666223A7B2272656D6F7465223A226F726967696E222C22636865636B73223A5B222E2F74657374225D2C22636865636B5F74696D656F75745F6D73223A3630303030302C22636F6D6D6974223A226175746F222C22636C61696D5F7374617465223A22496E2050726F6772657373222C227374617465223A2248756D616E20526576696577222C22636F6D6D656E74223A22507573686564207B7B206272616E6368207D7D227D2C22627564676574223A7B2269737375655F72756E73223A32302C226973737565223A7B22746F6B656E73223A6E756C6C2C22636F73745F6E616E6F757364223A6E756C6C2C227475726E73223A6E756C6C2C2277616C6C5F636C6F636B5F6D73223A6E756C6C7D2C22646179223A7B22746F6B656E73223A6E756C6C2C22636F73745F6E616E6F757364223A6E756C6C2C227475726E73223A6E756C6C2C2277616C6C5F636C6F636B5F6D73223A6E756C6C7D2C22707269636573223A7B7D7D2C22627265616B6572223A7B2273616D655F6661696C757265223A332C226E6F5F70726F67726573735F7475726E73223A352C22636F6F6C646F776E5F6D73223A313830303030307D2C2271756F7461223A7B22726573756D655F61745F7265736574223A747275657D2C226175746F5F617070726F7665223A22776F726B7370616365222C2270726F6D70745F74656D706C617465223A22446F207B7B2069737375652E7469746C65207D7D2E227D7D2C22776F726B666C6F775F6661696C757265223A6E756C6C2C22747261636B65725F6661696C757265223A6E756C6C2C22697373756573223A7B226931223A7B226973737565223A7B226964223A226931222C226E61746976655F726566223A6E756C6C2C226964656E746966696572223A2244532D31222C227469746C65223A22546865207469746C65206F662044532D31222C226465736372697074696F6E223A22576F7264732C20E2809C71756F746564E2809D2C20616E6420615C6E6E6577206C696E652E222C227072696F72697479223A322C227374617465223A22546F646F222C226272616E63685F6E616D65223A6E756C6C2C2275726C223A6E756C6C2C2261737369676E65655F6964223A6E756C6C2C226C6162656C73223A5B226261636B656E64225D2C22626C6F636B65645F6279223A5B5D2C22706172656E74223A6E756C6C2C22646973706174636861626C65223A747275652C22756E646973706174636861626C655F726561736F6E223A6E756C6C2C22637265617465645F6174223A352C22757064617465645F6174223A6E756C6C7D2C22737461747573223A2272756E6E696E67222C22726561736F6E223A6E756C6C2C22617474656D7074223A312C2272756E73223A312C2263757272656E745F72756E223A2272756E2D31222C226C6173745F72756E223A2272756E2D31222C226475655F6174223A6E756C6C2C22776F726B7370616365223A7B2270617468223A222F776F726B2F7370616365732F44532D31222C226272616E6368223A2264616C7365676E6F2F44532D31222C22626173655F636F6D6D6974223A2262343565227D2C22776F726B73706163655F77686F6C65223A66616C73652C22776F726B73706163655F756E73757265223A66616C73652C22776F726B73706163655F6B657074223A66616C73652C226272616E6368223A2264616C7365676E6F2F44532D31222C2268616E6465645F6F6666223A6E756C6C2C22756E737572655F6D6F7665223A6E756C6C2C22736574746C6564223A6E756C6C2C227573616765223A7B22696E7075745F746F6B656E73223A302C226361636865645F696E7075745F746F6B656E73223A302C226F75747075745F746F6B656E73223A302C22746F74616C5F746F6B656E73223A307D2C227365656E5F6174223A313030357D7D2C22676F6E65223A7B7D2C2272756E73223A7B2272756E2D31223A7B226964223A2272756E2D31222C226973737565223A226931222C22617474656D7074223A312C22706F6C696379223A22356861323536222C227068617365223A7B226E616D65223A226C61756E6368696E67227D2C22656E64696E67223A6E756C6C2C226F7574636F6D65223A6E756C6C2C22726561736F6E223A6E756C6C2C2265766964656E6365223A6E756C6C2C2273657373696F6E223A6E756C6C2C226174746163686564223A66616C73652C227475726E223A302C22636F756E7465645F7475726E73223A302C227475726E5F6F70656E223A66616C73652C226E6578745F70726F6D7074223A6E756C6C2C2263616E646964617465223A6E756C6C2C226375745F7475726E73223A302C22646F75627473223A302C227377656570696E67223A66616C73652C2268616E646F6666223A6E756C6C2C227573616765223A7B22696E7075745F746F6B656E73223A302C226361636865645F696E7075745F746F6B656E73223A302C226F75747075745F746F6B656E73223A302C22746F74616C5F746F6B656E73223A307D2C227475726E5F7573616765223A7B22696E7075745F746F6B656E73223A302C226361636865645F696E7075745F746F6B656E73223A302C226F75747075745F746F6B656E73223A302C22746F74616C5F746F6B656E73223A307D2C22737461727465645F6174223A313030392C22656E6465645F6174223A6E756C6C7D7D2C226F70656E5F65666665637473223A7B7D2C2272756E5F636F756E74223A312C226566666563745F636F756E74223A312C227573616765223A7B22696E7075745F746F6B656E73223A302C226361636865645F696E7075745F746F6B656E73223A302C226F75747075745F746F6B656E73223A302C22746F74616C5F746F6B656E73223A307D2C2272756E5F6D73223A307D7D');
CREATE TABLE usage (
    run TEXT NOT NULL,
    turn INTEGER NOT NULL,
    place INTEGER NOT NULL,
    issue_id TEXT NOT NULL,
    day INTEGER NOT NULL,
    model TEXT,
    data TEXT NOT NULL,
    PRIMARY KEY (run, turn, place)
) STRICT, WITHOUT ROWID;
INSERT INTO "usage" VALUES('run-1',1,0,'i1',0,NULL,'{"run":"run-1","turn":1,"place":0,"issue":"i1","identifier":"DS-1","session":"s-1","model":null,"day":0,"usage":{"input_tokens":1200,"cached_input_tokens":0,"output_tokens":80,"total_tokens":1280},"cost_nanousd":null,"incomplete":false}');
CREATE INDEX events_by_issue ON events (issue_id) WHERE issue_id IS NOT NULL;
CREATE INDEX events_by_run ON events (run) WHERE run IS NOT NULL;
CREATE INDEX events_by_kind ON events (kind);
CREATE INDEX issues_by_id_key ON issues (id_key);
CREATE INDEX issues_by_identifier ON issues (identifier_key);
CREATE INDEX issues_by_status ON issues (status, identifier_key);
CREATE INDEX runs_by_start ON runs (started_at);
CREATE INDEX runs_by_issue ON runs (issue_id, started_at);
CREATE INDEX runs_by_end ON runs (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX usage_by_issue ON usage (issue_id);
CREATE INDEX usage_by_day ON usage (day);
CREATE INDEX usage_by_model ON usage (model);
COMMIT;
