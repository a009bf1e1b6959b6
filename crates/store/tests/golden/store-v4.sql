PRAGMA page_size = 8192; PRAGMA application_id = 1147235411; PRAGMA user_version = 4;
BEGIN TRANSACTION;
CREATE TABLE daemon (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    data TEXT NOT NULL
) STRICT;
INSERT INTO "daemon" VALUES(1,'{"epoch":2,"policy":"ab4b2da423de9bbd8cd9f39f814f5896f6e05f03bf16c39b2e97ac219f209d10","workflow_failure":null,"tracker_failure":null,"usage":{"input_tokens":22,"cached_input_tokens":0,"output_tokens":7,"total_tokens":29},"run_ms":2965}');
CREATE TABLE effects (
    place INTEGER PRIMARY KEY,
    previous INTEGER NOT NULL,
    scope INTEGER NOT NULL,
    replay_key TEXT NOT NULL,
    kind TEXT NOT NULL,
    hash BLOB NOT NULL,
    content TEXT,
    provenance TEXT,
    epoch INTEGER NOT NULL,
    began_at INTEGER NOT NULL,
    due_at INTEGER
) STRICT;
INSERT INTO "effects" VALUES(1,0,1,'run-1/prepare@e1','direct',X'9CDE5AD12DDB78CB6D0597B08FA6950781556AFF3D6AA03056EF3CF5D600B15F','{"command":{"input":{"fresh":false,"kind":"prepare_workspace"},"name":"prepare_workspace","type":"direct"},"invocation":{"effect_id":"e1","kind":"direct","replay_key":"run-1/prepare@e1","scope":{"id":"run-1","type":"process"}}}',NULL,1,1795782245062,NULL);
INSERT INTO "effects" VALUES(2,1,1,'run-1/session/1@e2','process',X'11F781052368F93F8DD45866D2107CC5706173BFF11FD006B7951544ED0D1BD6','{"command":{"request":{"kind":"start_session","resume":null,"seek":null},"type":"process"},"invocation":{"effect_id":"e2","kind":"process","replay_key":"run-1/session/1@e2","scope":{"id":"run-1","type":"process"}}}',NULL,1,1795782245304,NULL);
INSERT INTO "effects" VALUES(3,2,1,'run-1/prompt/1@e3','llm_call',X'C24AFFCF3A4CBB63DCCB7EA79EE3250E20647604A5006A23941B05BF363E5E57','{"command":{"request":{"kind":"prompt","prompt":{"attempt":null,"kind":"first"},"turn":1},"type":"llm_call"},"invocation":{"effect_id":"e3","kind":"llm_call","replay_key":"run-1/prompt/1@e3","scope":{"id":"run-1","type":"process"}}}',NULL,1,1795782245345,NULL);
INSERT INTO "effects" VALUES(4,3,1,'run-1/sweep/3@e4','process',X'1AE3D55C516ECC5E4BC18CC69DB54648842823B7F416490CB391EE034EAC5249','{"command":{"request":{"kind":"sweep"},"type":"process"},"invocation":{"effect_id":"e4","kind":"process","replay_key":"run-1/sweep/3@e4","scope":{"id":"run-1","type":"process"}}}',NULL,2,1795782246570,NULL);
INSERT INTO "effects" VALUES(5,0,2,'run-2/prepare@e5','direct',X'E846D6F110F8743B8B3842B51D18E866572FF6750E95638A0DEC3CB70688E628','{"command":{"input":{"fresh":false,"kind":"prepare_workspace"},"name":"prepare_workspace","type":"direct"},"invocation":{"effect_id":"e5","kind":"direct","replay_key":"run-2/prepare@e5","scope":{"id":"run-2","type":"process"}}}',NULL,2,1795782246574,NULL);
INSERT INTO "effects" VALUES(6,4,1,'run-1/session/5@e6','process',X'D138EF701389EE80912941633E0067D4AFAEFE0E0A1F1A5F18A8CD0B3CDE3010','{"command":{"request":{"kind":"start_session","resume":"scripted-09d5250440367ebc","seek":"run-1/prompt/1"},"type":"process"},"invocation":{"effect_id":"e6","kind":"process","replay_key":"run-1/session/5@e6","scope":{"id":"run-1","type":"process"}}}',NULL,2,1795782246578,NULL);
INSERT INTO "effects" VALUES(7,6,1,'run-1/prompt/2@e7','llm_call',X'43CD1A19EDE8805D004907AB1137AEE3929E5B2372E2C58BFC2F8C6873F08FBB','{"command":{"request":{"kind":"prompt","prompt":{"kind":"after_cut"},"turn":2},"type":"llm_call"},"invocation":{"effect_id":"e7","kind":"llm_call","replay_key":"run-1/prompt/2@e7","scope":{"id":"run-1","type":"process"}}}',NULL,2,1795782246603,NULL);
INSERT INTO "effects" VALUES(8,5,2,'run-2/session/7@e8','process',X'1B1AF91E1EB9E52345B293EA2649895AE6091A560BA12EDE23590D1296868799','{"command":{"request":{"kind":"start_session","resume":null,"seek":null},"type":"process"},"invocation":{"effect_id":"e8","kind":"process","replay_key":"run-2/session/7@e8","scope":{"id":"run-2","type":"process"}}}',NULL,2,1795782246653,NULL);
INSERT INTO "effects" VALUES(9,7,1,'run-1/fetch/2@e9','direct',X'34F90D7B9742631B7C647F7CEA325CA109A864FBE99F6DD616443AA32E50DCBA','{"command":{"input":{"kind":"fetch_commit"},"name":"fetch_commit","type":"direct"},"invocation":{"effect_id":"e9","kind":"direct","replay_key":"run-1/fetch/2@e9","scope":{"id":"run-1","type":"process"}}}',NULL,2,1795782246667,NULL);
INSERT INTO "effects" VALUES(10,8,2,'run-2/prompt/1@e10','llm_call',X'7CDFB19D1F45C2C0AC6E3D1723BA47691A57788FDC1FD8459EA2B6619032901E','{"command":{"request":{"kind":"prompt","prompt":{"attempt":null,"kind":"first"},"turn":1},"type":"llm_call"},"invocation":{"effect_id":"e10","kind":"llm_call","replay_key":"run-2/prompt/1@e10","scope":{"id":"run-2","type":"process"}}}',NULL,2,1795782246675,NULL);
INSERT INTO "effects" VALUES(11,9,1,'run-1/close@e11','process',X'2DAFE9DB6421BFB732F7FEB99AA37C9C4E5BBBD4D1DA7C68AB000D0188BAE7B4','{"command":{"request":{"kind":"stop_agent"},"type":"process"},"invocation":{"effect_id":"e11","kind":"process","replay_key":"run-1/close@e11","scope":{"id":"run-1","type":"process"}}}',NULL,2,1795782246705,NULL);
INSERT INTO "effects" VALUES(12,11,1,'run-1/handoff@e12','direct',X'B08CD7A7082420EA28970CADC0380FA6674B9ECC34BB5090F3103F449014D126','{"command":{"input":{"commit":"521105d297ffeec48ecc62b6dcfe0339051648f3","expected":null,"from":"Todo","kind":"hand_off","saga":"run-1.handoff"},"name":"hand_off","type":"direct"},"invocation":{"effect_id":"e12","kind":"direct","replay_key":"run-1/handoff@e12","scope":{"id":"run-1","type":"process"}}}',NULL,2,1795782246715,NULL);
INSERT INTO "effects" VALUES(13,0,3,'00000001','checkpoint',X'C1AD9374E9D6B3D78D0A38F1E8BE1438305FAFA1272CB9F3FBEBA03DE0046D6D','{"at":1795782246718,"epoch":1,"events":[{"event":"begun","plan":{"name":"handoff","version":1,"steps":[{"name":"push","kind":"pivot","args":{"commit":"521105d297ffeec48ecc62b6dcfe0339051648f3","expected":null},"dedup":"natural","probe":true,"operator":false,"verify":false,"tries":{"attempts":8,"base_ms":2000,"cap_ms":60000},"undo_tries":{"attempts":8,"base_ms":200,"cap_ms":30000},"limit_ms":900000},{"name":"comment","kind":"retriable","after":["push"],"args":{"commit":"521105d297ffeec48ecc62b6dcfe0339051648f3","checks":[]},"dedup":"none","probe":true,"operator":false,"verify":false,"tries":{"attempts":8,"base_ms":2000,"cap_ms":60000},"undo_tries":{"attempts":8,"base_ms":200,"cap_ms":30000},"limit_ms":120000},{"name":"move","kind":"retriable","after":["push"],"args":{"to":"Human Review","from":"Todo"},"dedup":"natural","probe":true,"operator":false,"verify":false,"tries":{"attempts":8,"base_ms":2000,"cap_ms":60000},"undo_tries":{"attempts":8,"base_ms":200,"cap_ms":30000},"limit_ms":120000}]}},{"event":"intended","step":"push","role":"do","generation":1,"attempt":1}]}',NULL,1,1795782246718,NULL);
INSERT INTO "effects" VALUES(14,13,3,'00000002','checkpoint',X'02E3D9F8E892BCC104DEE2D8BF0C49C9471D664C3C33E8F6ABF4DD6B16288FF6','{"at":1795782246761,"epoch":1,"events":[{"event":"done","step":"push","role":"do"},{"event":"intended","step":"comment","role":"do","generation":1,"attempt":1},{"event":"intended","step":"move","role":"do","generation":1,"attempt":1}]}',NULL,1,1795782246761,NULL);
INSERT INTO "effects" VALUES(15,14,3,'00000003','checkpoint',X'D746EDB84D39BDDDDDDBA95335B6113060D919395BB39F809BD95D1F4B9E4069','{"at":1795782246769,"epoch":1,"events":[{"event":"done","step":"comment","role":"do"}]}',NULL,1,1795782246769,NULL);
INSERT INTO "effects" VALUES(16,15,3,'00000004','checkpoint',X'B1668F19CB37197F1DD5DF495013300D3B8562F5C7D5CEF346334C0A5A97369A','{"at":1795782246775,"epoch":1,"events":[{"event":"done","step":"move","role":"do","output":{"state":"Human Review"}},{"event":"ended","end":"committed"}]}',NULL,1,1795782246775,NULL);
INSERT INTO "effects" VALUES(17,10,2,'run-2/fetch/1@e13','direct',X'A71CF8AA01AEFBE6EF592BE6899BC13144FBA890825DC6D5E3385216D537D525','{"command":{"input":{"kind":"fetch_commit"},"name":"fetch_commit","type":"direct"},"invocation":{"effect_id":"e13","kind":"direct","replay_key":"run-2/fetch/1@e13","scope":{"id":"run-2","type":"process"}}}',NULL,2,1795782247719,NULL);
INSERT INTO "effects" VALUES(18,17,2,'run-2/close@e14','process',X'D848A997C3B775BFADF8A2D68D2504EADD5BCDFAFFD4263DD583448BCB3B66F4','{"command":{"request":{"kind":"stop_agent"},"type":"process"},"invocation":{"effect_id":"e14","kind":"process","replay_key":"run-2/close@e14","scope":{"id":"run-2","type":"process"}}}',NULL,2,1795782247751,NULL);
INSERT INTO "effects" VALUES(19,18,2,'run-2/handoff@e15','direct',X'C452974A76AD2A3F580BBD87A7BF069981DEF2AF888EB41F053C7D2DE97613CC','{"command":{"input":{"commit":"6dcc416a6792b8c23835f01347db0f02793a63ad","expected":null,"from":"Todo","kind":"hand_off","saga":"run-2.handoff"},"name":"hand_off","type":"direct"},"invocation":{"effect_id":"e15","kind":"direct","replay_key":"run-2/handoff@e15","scope":{"id":"run-2","type":"process"}}}',NULL,2,1795782247762,NULL);
INSERT INTO "effects" VALUES(20,0,4,'00000001','checkpoint',X'2FB30EFE8260118959E65AEA10BE867012C99CA65970483CAC8C6C1DBFD983A2','{"at":1795782247765,"epoch":1,"events":[{"event":"begun","plan":{"name":"handoff","version":1,"steps":[{"name":"push","kind":"pivot","args":{"commit":"6dcc416a6792b8c23835f01347db0f02793a63ad","expected":null},"dedup":"natural","probe":true,"operator":false,"verify":false,"tries":{"attempts":8,"base_ms":2000,"cap_ms":60000},"undo_tries":{"attempts":8,"base_ms":200,"cap_ms":30000},"limit_ms":900000},{"name":"comment","kind":"retriable","after":["push"],"args":{"commit":"6dcc416a6792b8c23835f01347db0f02793a63ad","checks":[]},"dedup":"none","probe":true,"operator":false,"verify":false,"tries":{"attempts":8,"base_ms":2000,"cap_ms":60000},"undo_tries":{"attempts":8,"base_ms":200,"cap_ms":30000},"limit_ms":120000},{"name":"move","kind":"retriable","after":["push"],"args":{"to":"Human Review","from":"Todo"},"dedup":"natural","probe":true,"operator":false,"verify":false,"tries":{"attempts":8,"base_ms":2000,"cap_ms":60000},"undo_tries":{"attempts":8,"base_ms":200,"cap_ms":30000},"limit_ms":120000}]}},{"event":"intended","step":"push","role":"do","generation":1,"attempt":1}]}',NULL,1,1795782247765,NULL);
INSERT INTO "effects" VALUES(21,20,4,'00000002','checkpoint',X'B98F62A979F6E32D2D22BAD4ABDC6C9E15FF42DD07828FA5FB8C598ACF26638C','{"at":1795782247806,"epoch":1,"events":[{"event":"done","step":"push","role":"do"},{"event":"intended","step":"comment","role":"do","generation":1,"attempt":1},{"event":"intended","step":"move","role":"do","generation":1,"attempt":1}]}',NULL,1,1795782247806,NULL);
INSERT INTO "effects" VALUES(22,21,4,'00000003','checkpoint',X'13AE4FC2B7ED75B961FFA6F949A5F56D5A27C50356F3E03B5A3E1D50EA4E6509','{"at":1795782247812,"epoch":1,"events":[{"event":"done","step":"comment","role":"do"}]}',NULL,1,1795782247812,NULL);
INSERT INTO "effects" VALUES(23,22,4,'00000004','checkpoint',X'B9BE25F1C4E9ADF9069E1E50FE1788A7D931AE1AE1B13219DF54C72B15C05812','{"at":1795782247820,"epoch":1,"events":[{"event":"done","step":"move","role":"do","output":{"state":"Human Review"}},{"event":"ended","end":"committed"}]}',NULL,1,1795782247820,NULL);
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
INSERT INTO "events" VALUES(1,1795782245059,'daemon_started',NULL,NULL,NULL,3,'{"kind":"daemon_started","epoch":1,"version":"0.1.0","pid":2142}');
INSERT INTO "events" VALUES(2,1795782245060,'workflow_loaded',NULL,NULL,NULL,3,'{"kind":"workflow_loaded","hash":"ab4b2da423de9bbd8cd9f39f814f5896f6e05f03bf16c39b2e97ac219f209d10","policy":{"project_dir":"/tmp/work/project","tracker":{"kind":"local","provider":{"path":"../issues"},"required_labels":[],"active_states":["Todo","In Progress","Rework"],"terminal_states":["Done","Closed","Canceled","Duplicate"]},"poll_interval_ms":200,"workspace":{"root":"/tmp/work/workspaces","strategy":"clone","repo":"/tmp/work/project","base":null,"branch":"dalsegno/{{ issue.identifier }}"},"hooks":{"after_create":null,"before_run":null,"after_run":null,"before_remove":null,"timeout_ms":60000},"agent":{"kind":"scripted","command":null,"script":"/tmp/work/project/agent.yaml","max_concurrent_agents":10,"max_turns":20,"max_retry_backoff_ms":300000,"max_concurrent_agents_by_state":{},"turn_timeout_ms":3600000,"read_timeout_ms":5000,"stall_timeout_ms":300000,"model":null,"sandbox":"none","sandbox_network":"all","sandbox_write":[],"codex":{"approval_policy":null,"thread_sandbox":null,"turn_sandbox_policy":null}},"handoff":{"remote":"origin","checks":[],"check_timeout_ms":600000,"commit":"auto","claim_state":null,"state":"Human Review","comment":"{{ issue.identifier }} is done."},"budget":{"issue_runs":20,"issue":{"tokens":null,"cost_nanousd":null,"turns":null,"wall_clock_ms":null},"day":{"tokens":null,"cost_nanousd":null,"turns":null,"wall_clock_ms":null},"prices":{}},"breaker":{"same_failure":3,"no_progress_turns":5,"cooldown_ms":1800000},"quota":{"resume_at_reset":true},"auto_approve":"none","questions":{"expire_ms":86400000},"prompt_template":"Work on {{ issue.identifier }}: {{ issue.title }}"}}');
INSERT INTO "events" VALUES(3,1795782245062,'issue_seen','DS-1','DS-1',NULL,3,'{"kind":"issue_seen","issue":{"id":"DS-1","native_ref":{"file":"DS-1.md"},"identifier":"DS-1","title":"One","description":"The first.","priority":null,"state":"Todo","branch_name":null,"url":null,"assignee_id":null,"labels":[],"blocked_by":[],"parent":null,"dispatchable":true,"undispatchable_reason":null,"created_at":null,"updated_at":1795782245032}}');
INSERT INTO "events" VALUES(4,1795782245062,'run_started','DS-1','DS-1','run-1',3,'{"kind":"run_started","run":"run-1","issue":"DS-1","attempt":null,"policy":"ab4b2da423de9bbd8cd9f39f814f5896f6e05f03bf16c39b2e97ac219f209d10"}');
INSERT INTO "events" VALUES(5,1795782245062,'issue_status','DS-1','DS-1',NULL,3,'{"kind":"issue_status","issue":"DS-1","from":"idle","to":"running","reason":null,"due_at":null}');
INSERT INTO "events" VALUES(6,1795782245062,'effect_intended','DS-1','DS-1','run-1',3,'{"kind":"effect_intended","effect_id":1,"issue":"DS-1","run":"run-1","key":"run-1/prepare","attempt":1,"effect":{"kind":"prepare_workspace","fresh":false}}');
INSERT INTO "events" VALUES(7,1795782245304,'effect_ended','DS-1','DS-1','run-1',3,'{"kind":"effect_ended","effect_id":1,"issue":"DS-1","run":"run-1","outcome":{"result":"done","output":{"output":"workspace_ready","workspace":{"path":"/tmp/work/workspaces/DS-1","branch":"dalsegno/DS-1","base_commit":"70e57c3b6dc86ad81e4f27e52061b1a2dedc3c61"},"created":true}},"probed":false}');
INSERT INTO "events" VALUES(8,1795782245304,'workspace_ready','DS-1','DS-1','run-1',3,'{"kind":"workspace_ready","issue":"DS-1","run":"run-1","workspace":{"path":"/tmp/work/workspaces/DS-1","branch":"dalsegno/DS-1","base_commit":"70e57c3b6dc86ad81e4f27e52061b1a2dedc3c61"},"created":true}');
INSERT INTO "events" VALUES(9,1795782245304,'run_phase','DS-1','DS-1','run-1',3,'{"kind":"run_phase","run":"run-1","phase":{"name":"launching"}}');
INSERT INTO "events" VALUES(10,1795782245304,'effect_intended','DS-1','DS-1','run-1',3,'{"kind":"effect_intended","effect_id":2,"issue":"DS-1","run":"run-1","key":"run-1/session/1","attempt":1,"effect":{"kind":"start_session","resume":null,"seek":null}}');
INSERT INTO "events" VALUES(11,1795782245345,'effect_ended','DS-1','DS-1','run-1',3,'{"kind":"effect_ended","effect_id":2,"issue":"DS-1","run":"run-1","outcome":{"result":"done","output":{"output":"session_started","session":"scripted-09d5250440367ebc","how":"new","usage":null}},"probed":false}');
INSERT INTO "events" VALUES(12,1795782245345,'session_started','DS-1','DS-1','run-1',3,'{"kind":"session_started","run":"run-1","session":"scripted-09d5250440367ebc"}');
INSERT INTO "events" VALUES(13,1795782245345,'turn_started','DS-1','DS-1','run-1',3,'{"kind":"turn_started","run":"run-1","turn":1,"repeated":false}');
INSERT INTO "events" VALUES(14,1795782245345,'run_phase','DS-1','DS-1','run-1',3,'{"kind":"run_phase","run":"run-1","phase":{"name":"prompting"}}');
INSERT INTO "events" VALUES(15,1795782245345,'effect_intended','DS-1','DS-1','run-1',3,'{"kind":"effect_intended","effect_id":3,"issue":"DS-1","run":"run-1","key":"run-1/prompt/1","attempt":1,"effect":{"kind":"prompt","turn":1,"prompt":{"kind":"first","attempt":null}}}');
INSERT INTO "events" VALUES(16,1795782246570,'daemon_started',NULL,NULL,NULL,3,'{"kind":"daemon_started","epoch":2,"version":"0.1.0","pid":2221}');
INSERT INTO "events" VALUES(17,1795782246570,'effect_in_doubt','DS-1','DS-1','run-1',3,'{"kind":"effect_in_doubt","effect_id":3,"issue":"DS-1","run":"run-1","reason":"the daemon ended before the outcome was recorded"}');
INSERT INTO "events" VALUES(18,1795782246570,'recovery_step','DS-1','DS-1','run-1',3,'{"kind":"recovery_step","issue":"DS-1","run":"run-1","step":"sweep"}');
INSERT INTO "events" VALUES(19,1795782246570,'effect_intended','DS-1','DS-1','run-1',3,'{"kind":"effect_intended","effect_id":4,"issue":"DS-1","run":"run-1","key":"run-1/sweep/3","attempt":1,"effect":{"kind":"sweep"}}');
INSERT INTO "events" VALUES(20,1795782246574,'issue_seen','DS-2','DS-2',NULL,3,'{"kind":"issue_seen","issue":{"id":"DS-2","native_ref":{"file":"DS-2.md"},"identifier":"DS-2","title":"Two","description":"The second.","priority":null,"state":"Todo","branch_name":null,"url":null,"assignee_id":null,"labels":[],"blocked_by":[],"parent":null,"dispatchable":true,"undispatchable_reason":null,"created_at":null,"updated_at":1795782246539}}');
INSERT INTO "events" VALUES(21,1795782246574,'run_started','DS-2','DS-2','run-2',3,'{"kind":"run_started","run":"run-2","issue":"DS-2","attempt":null,"policy":"ab4b2da423de9bbd8cd9f39f814f5896f6e05f03bf16c39b2e97ac219f209d10"}');
INSERT INTO "events" VALUES(22,1795782246574,'issue_status','DS-2','DS-2',NULL,3,'{"kind":"issue_status","issue":"DS-2","from":"idle","to":"running","reason":null,"due_at":null}');
INSERT INTO "events" VALUES(23,1795782246574,'effect_intended','DS-2','DS-2','run-2',3,'{"kind":"effect_intended","effect_id":5,"issue":"DS-2","run":"run-2","key":"run-2/prepare","attempt":1,"effect":{"kind":"prepare_workspace","fresh":false}}');
INSERT INTO "events" VALUES(24,1795782246578,'effect_ended','DS-1','DS-1','run-1',3,'{"kind":"effect_ended","effect_id":4,"issue":"DS-1","run":"run-1","outcome":{"result":"done","output":{"output":"swept","killed":0}},"probed":false}');
INSERT INTO "events" VALUES(25,1795782246578,'run_phase','DS-1','DS-1','run-1',3,'{"kind":"run_phase","run":"run-1","phase":{"name":"launching"}}');
INSERT INTO "events" VALUES(26,1795782246578,'effect_intended','DS-1','DS-1','run-1',3,'{"kind":"effect_intended","effect_id":6,"issue":"DS-1","run":"run-1","key":"run-1/session/5","attempt":1,"effect":{"kind":"start_session","resume":"scripted-09d5250440367ebc","seek":"run-1/prompt/1"}}');
INSERT INTO "events" VALUES(27,1795782246603,'effect_ended','DS-1','DS-1','run-1',3,'{"kind":"effect_ended","effect_id":6,"issue":"DS-1","run":"run-1","outcome":{"result":"done","output":{"output":"session_started","session":"scripted-09d5250440367ebc","how":"resumed_prompt_found","usage":null}},"probed":false}');
INSERT INTO "events" VALUES(28,1795782246603,'session_resumed','DS-1','DS-1','run-1',3,'{"kind":"session_resumed","run":"run-1","session":"scripted-09d5250440367ebc"}');
INSERT INTO "events" VALUES(29,1795782246603,'effect_ended','DS-1','DS-1','run-1',3,'{"kind":"effect_ended","effect_id":3,"issue":"DS-1","run":"run-1","outcome":{"result":"done","output":{"output":"turn_ended","turn":{"outcome":"interrupted"},"usage":{"input_tokens":0,"cached_input_tokens":0,"output_tokens":0,"total_tokens":0},"summary":"","model":null,"tool_digest":null}},"probed":true}');
INSERT INTO "events" VALUES(30,1795782246603,'turn_ended','DS-1','DS-1','run-1',3,'{"kind":"turn_ended","run":"run-1","turn":1,"outcome":"interrupted","summary":"","cut":true}');
INSERT INTO "events" VALUES(31,1795782246603,'turn_started','DS-1','DS-1','run-1',3,'{"kind":"turn_started","run":"run-1","turn":2,"repeated":false}');
INSERT INTO "events" VALUES(32,1795782246603,'run_phase','DS-1','DS-1','run-1',3,'{"kind":"run_phase","run":"run-1","phase":{"name":"prompting"}}');
INSERT INTO "events" VALUES(33,1795782246603,'effect_intended','DS-1','DS-1','run-1',3,'{"kind":"effect_intended","effect_id":7,"issue":"DS-1","run":"run-1","key":"run-1/prompt/2","attempt":1,"effect":{"kind":"prompt","turn":2,"prompt":{"kind":"after_cut"}}}');
INSERT INTO "events" VALUES(34,1795782246636,'effect_ended','DS-1','DS-1','run-1',3,'{"kind":"effect_ended","effect_id":7,"issue":"DS-1","run":"run-1","outcome":{"result":"done","output":{"output":"turn_ended","turn":{"outcome":"completed"},"usage":{"input_tokens":12,"cached_input_tokens":0,"output_tokens":4,"total_tokens":16},"summary":"again","model":null,"tool_digest":null}},"probed":false}');
INSERT INTO "events" VALUES(35,1795782246636,'usage','DS-1','DS-1','run-1',3,'{"kind":"usage","run":"run-1","turn":2,"usage":{"input_tokens":12,"cached_input_tokens":0,"output_tokens":4,"total_tokens":16},"model":null,"settled":false}');
INSERT INTO "events" VALUES(36,1795782246636,'turn_ended','DS-1','DS-1','run-1',3,'{"kind":"turn_ended","run":"run-1","turn":2,"outcome":"completed","summary":"again","cut":false}');
INSERT INTO "events" VALUES(37,1795782246636,'run_phase','DS-1','DS-1','run-1',3,'{"kind":"run_phase","run":"run-1","phase":{"name":"assessing"}}');
INSERT INTO "events" VALUES(38,1795782246653,'effect_ended','DS-2','DS-2','run-2',3,'{"kind":"effect_ended","effect_id":5,"issue":"DS-2","run":"run-2","outcome":{"result":"done","output":{"output":"workspace_ready","workspace":{"path":"/tmp/work/workspaces/DS-2","branch":"dalsegno/DS-2","base_commit":"70e57c3b6dc86ad81e4f27e52061b1a2dedc3c61"},"created":true}},"probed":false}');
INSERT INTO "events" VALUES(39,1795782246653,'workspace_ready','DS-2','DS-2','run-2',3,'{"kind":"workspace_ready","issue":"DS-2","run":"run-2","workspace":{"path":"/tmp/work/workspaces/DS-2","branch":"dalsegno/DS-2","base_commit":"70e57c3b6dc86ad81e4f27e52061b1a2dedc3c61"},"created":true}');
INSERT INTO "events" VALUES(40,1795782246653,'run_phase','DS-2','DS-2','run-2',3,'{"kind":"run_phase","run":"run-2","phase":{"name":"launching"}}');
INSERT INTO "events" VALUES(41,1795782246653,'effect_intended','DS-2','DS-2','run-2',3,'{"kind":"effect_intended","effect_id":8,"issue":"DS-2","run":"run-2","key":"run-2/session/7","attempt":1,"effect":{"kind":"start_session","resume":null,"seek":null}}');
INSERT INTO "events" VALUES(42,1795782246667,'progress','DS-1','DS-1','run-1',3,'{"kind":"progress","run":"run-1","turn":2,"progressed":true,"head":"521105d297ffeec48ecc62b6dcfe0339051648f3","diff_digest":null,"tool_digest":null}');
INSERT INTO "events" VALUES(43,1795782246667,'run_phase','DS-1','DS-1','run-1',3,'{"kind":"run_phase","run":"run-1","phase":{"name":"fetching"}}');
INSERT INTO "events" VALUES(44,1795782246667,'effect_intended','DS-1','DS-1','run-1',3,'{"kind":"effect_intended","effect_id":9,"issue":"DS-1","run":"run-1","key":"run-1/fetch/2","attempt":1,"effect":{"kind":"fetch_commit"}}');
INSERT INTO "events" VALUES(45,1795782246675,'effect_ended','DS-2','DS-2','run-2',3,'{"kind":"effect_ended","effect_id":8,"issue":"DS-2","run":"run-2","outcome":{"result":"done","output":{"output":"session_started","session":"scripted-73b33b97d1187060","how":"new","usage":null}},"probed":false}');
INSERT INTO "events" VALUES(46,1795782246675,'session_started','DS-2','DS-2','run-2',3,'{"kind":"session_started","run":"run-2","session":"scripted-73b33b97d1187060"}');
INSERT INTO "events" VALUES(47,1795782246675,'turn_started','DS-2','DS-2','run-2',3,'{"kind":"turn_started","run":"run-2","turn":1,"repeated":false}');
INSERT INTO "events" VALUES(48,1795782246675,'run_phase','DS-2','DS-2','run-2',3,'{"kind":"run_phase","run":"run-2","phase":{"name":"prompting"}}');
INSERT INTO "events" VALUES(49,1795782246675,'effect_intended','DS-2','DS-2','run-2',3,'{"kind":"effect_intended","effect_id":10,"issue":"DS-2","run":"run-2","key":"run-2/prompt/1","attempt":1,"effect":{"kind":"prompt","turn":1,"prompt":{"kind":"first","attempt":null}}}');
INSERT INTO "events" VALUES(50,1795782246705,'effect_ended','DS-1','DS-1','run-1',3,'{"kind":"effect_ended","effect_id":9,"issue":"DS-1","run":"run-1","outcome":{"result":"done","output":{"output":"commit_fetched","commit":"521105d297ffeec48ecc62b6dcfe0339051648f3"}},"probed":false}');
INSERT INTO "events" VALUES(51,1795782246705,'saga_started','DS-1','DS-1','run-1',3,'{"kind":"saga_started","run":"run-1","commit":"521105d297ffeec48ecc62b6dcfe0339051648f3","evidence":"no evidence: no checks are configured","saga":"run-1.handoff"}');
INSERT INTO "events" VALUES(52,1795782246705,'issue_status','DS-1','DS-1',NULL,3,'{"kind":"issue_status","issue":"DS-1","from":"running","to":"handing_off","reason":null,"due_at":null}');
INSERT INTO "events" VALUES(53,1795782246705,'run_phase','DS-1','DS-1','run-1',3,'{"kind":"run_phase","run":"run-1","phase":{"name":"closing"}}');
INSERT INTO "events" VALUES(54,1795782246705,'effect_intended','DS-1','DS-1','run-1',3,'{"kind":"effect_intended","effect_id":11,"issue":"DS-1","run":"run-1","key":"run-1/close","attempt":1,"effect":{"kind":"stop_agent"}}');
INSERT INTO "events" VALUES(55,1795782246715,'effect_ended','DS-1','DS-1','run-1',3,'{"kind":"effect_ended","effect_id":11,"issue":"DS-1","run":"run-1","outcome":{"result":"done","output":{"output":"swept","killed":0}},"probed":false}');
INSERT INTO "events" VALUES(56,1795782246715,'run_phase','DS-1','DS-1','run-1',3,'{"kind":"run_phase","run":"run-1","phase":{"name":"delivering"}}');
INSERT INTO "events" VALUES(57,1795782246715,'effect_intended','DS-1','DS-1','run-1',3,'{"kind":"effect_intended","effect_id":12,"issue":"DS-1","run":"run-1","key":"run-1/handoff","attempt":1,"effect":{"kind":"hand_off","saga":"run-1.handoff","commit":"521105d297ffeec48ecc62b6dcfe0339051648f3","expected":null,"from":"Todo"}}');
INSERT INTO "events" VALUES(58,1795782246720,'saga_step','DS-1','DS-1','run-1',3,'{"kind":"saga_step","run":"run-1","step":"push","state":{"state":"intended"},"entry":1}');
INSERT INTO "events" VALUES(59,1795782246764,'saga_step','DS-1','DS-1','run-1',3,'{"kind":"saga_step","run":"run-1","step":"push","state":{"state":"done"},"entry":2}');
INSERT INTO "events" VALUES(60,1795782246764,'saga_step','DS-1','DS-1','run-1',3,'{"kind":"saga_step","run":"run-1","step":"comment","state":{"state":"intended"},"entry":2}');
INSERT INTO "events" VALUES(61,1795782246764,'saga_step','DS-1','DS-1','run-1',3,'{"kind":"saga_step","run":"run-1","step":"move","state":{"state":"intended"},"entry":2}');
INSERT INTO "events" VALUES(62,1795782246770,'saga_step','DS-1','DS-1','run-1',3,'{"kind":"saga_step","run":"run-1","step":"comment","state":{"state":"done"},"entry":3}');
INSERT INTO "events" VALUES(63,1795782246779,'issue_changed','DS-1','DS-1',NULL,3,'{"kind":"issue_changed","issue":{"id":"DS-1","native_ref":{"file":"DS-1.md"},"identifier":"DS-1","title":"One","description":"The first.","priority":null,"state":"Human Review","branch_name":null,"url":null,"assignee_id":null,"labels":[],"blocked_by":[],"parent":null,"dispatchable":true,"undispatchable_reason":null,"created_at":null,"updated_at":1795782246767}}');
INSERT INTO "events" VALUES(64,1795782246779,'saga_step','DS-1','DS-1','run-1',3,'{"kind":"saga_step","run":"run-1","step":"move","state":{"state":"done"},"entry":4}');
INSERT INTO "events" VALUES(65,1795782246779,'effect_ended','DS-1','DS-1','run-1',3,'{"kind":"effect_ended","effect_id":12,"issue":"DS-1","run":"run-1","outcome":{"result":"done","output":{"output":"handed_off","end":"committed"}},"probed":false}');
INSERT INTO "events" VALUES(66,1795782246779,'saga_ended','DS-1','DS-1','run-1',3,'{"kind":"saga_ended","run":"run-1","committed":true}');
INSERT INTO "events" VALUES(67,1795782246779,'run_ending','DS-1','DS-1','run-1',3,'{"kind":"run_ending","run":"run-1","ending":{"outcome":"completed","reason":"handed_off","then":{"then":"handed_off"}}}');
INSERT INTO "events" VALUES(68,1795782246779,'run_phase','DS-1','DS-1','run-1',3,'{"kind":"run_phase","run":"run-1","phase":{"name":"after_run"}}');
INSERT INTO "events" VALUES(69,1795782246779,'run_ended','DS-1','DS-1','run-1',3,'{"kind":"run_ended","run":"run-1","outcome":"completed","reason":"handed_off","evidence":"no evidence: no checks are configured"}');
INSERT INTO "events" VALUES(70,1795782246779,'issue_status','DS-1','DS-1',NULL,3,'{"kind":"issue_status","issue":"DS-1","from":"handing_off","to":"handed_off","reason":"the branch is handed over","due_at":null}');
INSERT INTO "events" VALUES(71,1795782247697,'effect_ended','DS-2','DS-2','run-2',3,'{"kind":"effect_ended","effect_id":10,"issue":"DS-2","run":"run-2","outcome":{"result":"done","output":{"output":"turn_ended","turn":{"outcome":"completed"},"usage":{"input_tokens":10,"cached_input_tokens":0,"output_tokens":3,"total_tokens":13},"summary":"hello","model":null,"tool_digest":null}},"probed":false}');
INSERT INTO "events" VALUES(72,1795782247697,'usage','DS-2','DS-2','run-2',3,'{"kind":"usage","run":"run-2","turn":1,"usage":{"input_tokens":10,"cached_input_tokens":0,"output_tokens":3,"total_tokens":13},"model":null,"settled":false}');
INSERT INTO "events" VALUES(73,1795782247697,'turn_ended','DS-2','DS-2','run-2',3,'{"kind":"turn_ended","run":"run-2","turn":1,"outcome":"completed","summary":"hello","cut":false}');
INSERT INTO "events" VALUES(74,1795782247697,'run_phase','DS-2','DS-2','run-2',3,'{"kind":"run_phase","run":"run-2","phase":{"name":"assessing"}}');
INSERT INTO "events" VALUES(75,1795782247719,'progress','DS-2','DS-2','run-2',3,'{"kind":"progress","run":"run-2","turn":1,"progressed":true,"head":"6dcc416a6792b8c23835f01347db0f02793a63ad","diff_digest":null,"tool_digest":null}');
INSERT INTO "events" VALUES(76,1795782247719,'run_phase','DS-2','DS-2','run-2',3,'{"kind":"run_phase","run":"run-2","phase":{"name":"fetching"}}');
INSERT INTO "events" VALUES(77,1795782247719,'effect_intended','DS-2','DS-2','run-2',3,'{"kind":"effect_intended","effect_id":13,"issue":"DS-2","run":"run-2","key":"run-2/fetch/1","attempt":1,"effect":{"kind":"fetch_commit"}}');
INSERT INTO "events" VALUES(78,1795782247751,'effect_ended','DS-2','DS-2','run-2',3,'{"kind":"effect_ended","effect_id":13,"issue":"DS-2","run":"run-2","outcome":{"result":"done","output":{"output":"commit_fetched","commit":"6dcc416a6792b8c23835f01347db0f02793a63ad"}},"probed":false}');
INSERT INTO "events" VALUES(79,1795782247751,'saga_started','DS-2','DS-2','run-2',3,'{"kind":"saga_started","run":"run-2","commit":"6dcc416a6792b8c23835f01347db0f02793a63ad","evidence":"no evidence: no checks are configured","saga":"run-2.handoff"}');
INSERT INTO "events" VALUES(80,1795782247751,'issue_status','DS-2','DS-2',NULL,3,'{"kind":"issue_status","issue":"DS-2","from":"running","to":"handing_off","reason":null,"due_at":null}');
INSERT INTO "events" VALUES(81,1795782247751,'run_phase','DS-2','DS-2','run-2',3,'{"kind":"run_phase","run":"run-2","phase":{"name":"closing"}}');
INSERT INTO "events" VALUES(82,1795782247751,'effect_intended','DS-2','DS-2','run-2',3,'{"kind":"effect_intended","effect_id":14,"issue":"DS-2","run":"run-2","key":"run-2/close","attempt":1,"effect":{"kind":"stop_agent"}}');
INSERT INTO "events" VALUES(83,1795782247762,'effect_ended','DS-2','DS-2','run-2',3,'{"kind":"effect_ended","effect_id":14,"issue":"DS-2","run":"run-2","outcome":{"result":"done","output":{"output":"swept","killed":0}},"probed":false}');
INSERT INTO "events" VALUES(84,1795782247762,'run_phase','DS-2','DS-2','run-2',3,'{"kind":"run_phase","run":"run-2","phase":{"name":"delivering"}}');
INSERT INTO "events" VALUES(85,1795782247762,'effect_intended','DS-2','DS-2','run-2',3,'{"kind":"effect_intended","effect_id":15,"issue":"DS-2","run":"run-2","key":"run-2/handoff","attempt":1,"effect":{"kind":"hand_off","saga":"run-2.handoff","commit":"6dcc416a6792b8c23835f01347db0f02793a63ad","expected":null,"from":"Todo"}}');
INSERT INTO "events" VALUES(86,1795782247767,'saga_step','DS-2','DS-2','run-2',3,'{"kind":"saga_step","run":"run-2","step":"push","state":{"state":"intended"},"entry":1}');
INSERT INTO "events" VALUES(87,1795782247812,'saga_step','DS-2','DS-2','run-2',3,'{"kind":"saga_step","run":"run-2","step":"push","state":{"state":"done"},"entry":2}');
INSERT INTO "events" VALUES(88,1795782247812,'saga_step','DS-2','DS-2','run-2',3,'{"kind":"saga_step","run":"run-2","step":"comment","state":{"state":"intended"},"entry":2}');
INSERT INTO "events" VALUES(89,1795782247812,'saga_step','DS-2','DS-2','run-2',3,'{"kind":"saga_step","run":"run-2","step":"move","state":{"state":"intended"},"entry":2}');
INSERT INTO "events" VALUES(90,1795782247814,'saga_step','DS-2','DS-2','run-2',3,'{"kind":"saga_step","run":"run-2","step":"comment","state":{"state":"done"},"entry":3}');
INSERT INTO "events" VALUES(91,1795782247822,'saga_step','DS-2','DS-2','run-2',3,'{"kind":"saga_step","run":"run-2","step":"move","state":{"state":"done"},"entry":4}');
INSERT INTO "events" VALUES(92,1795782247822,'issue_changed','DS-2','DS-2',NULL,3,'{"kind":"issue_changed","issue":{"id":"DS-2","native_ref":{"file":"DS-2.md"},"identifier":"DS-2","title":"Two","description":"The second.","priority":null,"state":"Human Review","branch_name":null,"url":null,"assignee_id":null,"labels":[],"blocked_by":[],"parent":null,"dispatchable":true,"undispatchable_reason":null,"created_at":null,"updated_at":1795782246539}}');
INSERT INTO "events" VALUES(93,1795782247822,'effect_ended','DS-2','DS-2','run-2',3,'{"kind":"effect_ended","effect_id":15,"issue":"DS-2","run":"run-2","outcome":{"result":"done","output":{"output":"handed_off","end":"committed"}},"probed":false}');
INSERT INTO "events" VALUES(94,1795782247822,'saga_ended','DS-2','DS-2','run-2',3,'{"kind":"saga_ended","run":"run-2","committed":true}');
INSERT INTO "events" VALUES(95,1795782247822,'run_ending','DS-2','DS-2','run-2',3,'{"kind":"run_ending","run":"run-2","ending":{"outcome":"completed","reason":"handed_off","then":{"then":"handed_off"}}}');
INSERT INTO "events" VALUES(96,1795782247822,'run_phase','DS-2','DS-2','run-2',3,'{"kind":"run_phase","run":"run-2","phase":{"name":"after_run"}}');
INSERT INTO "events" VALUES(97,1795782247822,'run_ended','DS-2','DS-2','run-2',3,'{"kind":"run_ended","run":"run-2","outcome":"completed","reason":"handed_off","evidence":"no evidence: no checks are configured"}');
INSERT INTO "events" VALUES(98,1795782247822,'issue_status','DS-2','DS-2',NULL,3,'{"kind":"issue_status","issue":"DS-2","from":"handing_off","to":"handed_off","reason":"the branch is handed over","due_at":null}');
INSERT INTO "events" VALUES(99,1795782247824,'issue_changed','DS-2','DS-2',NULL,3,'{"kind":"issue_changed","issue":{"id":"DS-2","native_ref":{"file":"DS-2.md"},"identifier":"DS-2","title":"Two","description":"The second.","priority":null,"state":"Human Review","branch_name":null,"url":null,"assignee_id":null,"labels":[],"blocked_by":[],"parent":null,"dispatchable":true,"undispatchable_reason":null,"created_at":null,"updated_at":1795782247811}}');
INSERT INTO "events" VALUES(100,1795782247827,'daemon_stopped',NULL,NULL,NULL,3,'{"kind":"daemon_stopped","reason":"nothing is eligible or running"}');
CREATE TABLE file_batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL,
    policy TEXT NOT NULL,
    agent TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('preparing', 'committed', 'failed')),
    watermark INTEGER UNIQUE,
    why TEXT,
    CHECK ((state = 'committed') = (watermark IS NOT NULL))
) STRICT;
INSERT INTO "file_batches" VALUES(1,'run-1','ab4b2da423de9bbd8cd9f39f814f5896f6e05f03bf16c39b2e97ac219f209d10','scripted',2,'committed',1,NULL);
CREATE TABLE file_receipts (
    batch INTEGER NOT NULL REFERENCES file_batches (id),
    place INTEGER NOT NULL,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    voided TEXT,
    PRIMARY KEY (batch, place)
) STRICT, WITHOUT ROWID;
INSERT INTO "file_receipts" VALUES(1,0,'check-1.log','d40b628baf7f757149f5b6d6d6aca317d478ef3a29433064d21cfdd06fb33b8d',12,NULL);
CREATE TABLE issues (
    id TEXT PRIMARY KEY,
    id_key TEXT NOT NULL,
    identifier TEXT NOT NULL,
    identifier_key TEXT NOT NULL,
    status TEXT NOT NULL,
    data TEXT NOT NULL
) STRICT;
INSERT INTO "issues" VALUES('DS-1','ds-1','DS-1','ds-1','handed_off','{"issue":{"id":"DS-1","native_ref":{"file":"DS-1.md"},"identifier":"DS-1","title":"One","description":"The first.","priority":null,"state":"Human Review","branch_name":null,"url":null,"assignee_id":null,"labels":[],"blocked_by":[],"parent":null,"dispatchable":true,"undispatchable_reason":null,"created_at":null,"updated_at":1795782246767},"status":"handed_off","reason":"the branch is handed over","attempt":null,"due_at":null,"workspace":{"path":"/tmp/work/workspaces/DS-1","branch":"dalsegno/DS-1","base_commit":"70e57c3b6dc86ad81e4f27e52061b1a2dedc3c61"},"current_run":null,"handed_off":"521105d297ffeec48ecc62b6dcfe0339051648f3","pull_request":null,"question":null,"allowed_actions":["retry","rehydrate","comment","transition_issue","create_followup","set_budget"],"usage":{"input_tokens":12,"cached_input_tokens":0,"output_tokens":4,"total_tokens":16},"seen_at":1795782245062,"changed_at":1795782246779}');
INSERT INTO "issues" VALUES('DS-2','ds-2','DS-2','ds-2','handed_off','{"issue":{"id":"DS-2","native_ref":{"file":"DS-2.md"},"identifier":"DS-2","title":"Two","description":"The second.","priority":null,"state":"Human Review","branch_name":null,"url":null,"assignee_id":null,"labels":[],"blocked_by":[],"parent":null,"dispatchable":true,"undispatchable_reason":null,"created_at":null,"updated_at":1795782247811},"status":"handed_off","reason":"the branch is handed over","attempt":null,"due_at":null,"workspace":{"path":"/tmp/work/workspaces/DS-2","branch":"dalsegno/DS-2","base_commit":"70e57c3b6dc86ad81e4f27e52061b1a2dedc3c61"},"current_run":null,"handed_off":"6dcc416a6792b8c23835f01347db0f02793a63ad","pull_request":null,"question":null,"allowed_actions":["retry","rehydrate","comment","transition_issue","create_followup","set_budget"],"usage":{"input_tokens":10,"cached_input_tokens":0,"output_tokens":3,"total_tokens":13},"seen_at":1795782246574,"changed_at":1795782247824}');
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "meta" VALUES('epoch',2);
INSERT INTO "meta" VALUES('file_watermark',1);
INSERT INTO "meta" VALUES('heads_through',3);
INSERT INTO "meta" VALUES('journal_id','69a4aed40909ca3189b256475d537142');
INSERT INTO "meta" VALUES('secret',X'57F05BEF2EB6D757686FF11E32851FE12CF9F091E66581916A14F7C402C115FB');
CREATE TABLE names (
    key TEXT NOT NULL,
    issue_id TEXT NOT NULL,
    PRIMARY KEY (key, issue_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "names" VALUES('ds-1','DS-1');
INSERT INTO "names" VALUES('ds-2','DS-2');
CREATE TABLE outcomes (
    place INTEGER PRIMARY KEY,
    progress TEXT NOT NULL,
    state TEXT NOT NULL
) STRICT;
INSERT INTO "outcomes" VALUES(1,'ended','{"generation":1,"attempt":1,"epoch":1,"began_at":1795782245062,"progress":{"is":"ended","outcome":{"done":{"output":"workspace_ready","workspace":{"path":"/tmp/work/workspaces/DS-1","branch":"dalsegno/DS-1","base_commit":"70e57c3b6dc86ad81e4f27e52061b1a2dedc3c61"},"created":true}}}}');
INSERT INTO "outcomes" VALUES(2,'ended','{"generation":1,"attempt":1,"epoch":1,"began_at":1795782245304,"progress":{"is":"ended","outcome":{"done":{"output":"session_started","session":"scripted-09d5250440367ebc","how":"new","usage":null}}}}');
INSERT INTO "outcomes" VALUES(3,'ended','{"generation":1,"attempt":1,"doubts":1,"epoch":2,"began_at":1795782245345,"progress":{"is":"ended","outcome":{"done":{"output":"turn_ended","turn":{"outcome":"interrupted"},"usage":{"input_tokens":0,"cached_input_tokens":0,"output_tokens":0,"total_tokens":0},"summary":"","model":null,"tool_digest":null}}}}');
INSERT INTO "outcomes" VALUES(4,'ended','{"generation":1,"attempt":1,"epoch":2,"began_at":1795782246570,"progress":{"is":"ended","outcome":{"done":{"output":"swept","killed":0}}}}');
INSERT INTO "outcomes" VALUES(5,'ended','{"generation":1,"attempt":1,"epoch":2,"began_at":1795782246574,"progress":{"is":"ended","outcome":{"done":{"output":"workspace_ready","workspace":{"path":"/tmp/work/workspaces/DS-2","branch":"dalsegno/DS-2","base_commit":"70e57c3b6dc86ad81e4f27e52061b1a2dedc3c61"},"created":true}}}}');
INSERT INTO "outcomes" VALUES(6,'ended','{"generation":1,"attempt":1,"epoch":2,"began_at":1795782246578,"progress":{"is":"ended","outcome":{"done":{"output":"session_started","session":"scripted-09d5250440367ebc","how":"resumed_prompt_found","usage":null}}}}');
INSERT INTO "outcomes" VALUES(7,'ended','{"generation":1,"attempt":1,"epoch":2,"began_at":1795782246603,"progress":{"is":"ended","outcome":{"done":{"output":"turn_ended","turn":{"outcome":"completed"},"usage":{"input_tokens":12,"cached_input_tokens":0,"output_tokens":4,"total_tokens":16},"summary":"again","model":null,"tool_digest":null}}}}');
INSERT INTO "outcomes" VALUES(8,'ended','{"generation":1,"attempt":1,"epoch":2,"began_at":1795782246653,"progress":{"is":"ended","outcome":{"done":{"output":"session_started","session":"scripted-73b33b97d1187060","how":"new","usage":null}}}}');
INSERT INTO "outcomes" VALUES(9,'ended','{"generation":1,"attempt":1,"epoch":2,"began_at":1795782246667,"progress":{"is":"ended","outcome":{"done":{"output":"commit_fetched","commit":"521105d297ffeec48ecc62b6dcfe0339051648f3"}}}}');
INSERT INTO "outcomes" VALUES(10,'ended','{"generation":1,"attempt":1,"epoch":2,"began_at":1795782246675,"progress":{"is":"ended","outcome":{"done":{"output":"turn_ended","turn":{"outcome":"completed"},"usage":{"input_tokens":10,"cached_input_tokens":0,"output_tokens":3,"total_tokens":13},"summary":"hello","model":null,"tool_digest":null}}}}');
INSERT INTO "outcomes" VALUES(11,'ended','{"generation":1,"attempt":1,"epoch":2,"began_at":1795782246705,"progress":{"is":"ended","outcome":{"done":{"output":"swept","killed":0}}}}');
INSERT INTO "outcomes" VALUES(12,'ended','{"generation":1,"attempt":1,"epoch":2,"began_at":1795782246715,"progress":{"is":"ended","outcome":{"done":{"output":"handed_off","end":"committed"}}}}');
INSERT INTO "outcomes" VALUES(17,'ended','{"generation":1,"attempt":1,"epoch":2,"began_at":1795782247719,"progress":{"is":"ended","outcome":{"done":{"output":"commit_fetched","commit":"6dcc416a6792b8c23835f01347db0f02793a63ad"}}}}');
INSERT INTO "outcomes" VALUES(18,'ended','{"generation":1,"attempt":1,"epoch":2,"began_at":1795782247751,"progress":{"is":"ended","outcome":{"done":{"output":"swept","killed":0}}}}');
INSERT INTO "outcomes" VALUES(19,'ended','{"generation":1,"attempt":1,"epoch":2,"began_at":1795782247762,"progress":{"is":"ended","outcome":{"done":{"output":"handed_off","end":"committed"}}}}');
CREATE TABLE pruned (
    scope INTEGER PRIMARY KEY,
    head INTEGER NOT NULL
) STRICT;
CREATE TABLE revoked_sessions (
    session TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    issue_id TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    data TEXT NOT NULL
) STRICT;
INSERT INTO "runs" VALUES('run-1','DS-1',1795782245062,1795782246779,'{"id":"run-1","issue":"DS-1","identifier":"DS-1","attempt":null,"policy":"ab4b2da423de9bbd8cd9f39f814f5896f6e05f03bf16c39b2e97ac219f209d10","phase":{"name":"ended"},"outcome":"completed","reason":"handed_off","evidence":"no evidence: no checks are configured","session":"scripted-09d5250440367ebc","turns":2,"cut_turns":1,"handoff":{"commit":"521105d297ffeec48ecc62b6dcfe0339051648f3","saga":"run-1.handoff","steps":[["push",{"state":"done"}],["comment",{"state":"done"}],["move",{"state":"done"}]],"turned_back":null,"heard":4,"before":null,"pull_request":null},"usage":{"input_tokens":12,"cached_input_tokens":0,"output_tokens":4,"total_tokens":16},"started_at":1795782245062,"ended_at":1795782246779}');
INSERT INTO "runs" VALUES('run-2','DS-2',1795782246574,1795782247822,'{"id":"run-2","issue":"DS-2","identifier":"DS-2","attempt":null,"policy":"ab4b2da423de9bbd8cd9f39f814f5896f6e05f03bf16c39b2e97ac219f209d10","phase":{"name":"ended"},"outcome":"completed","reason":"handed_off","evidence":"no evidence: no checks are configured","session":"scripted-73b33b97d1187060","turns":1,"cut_turns":0,"handoff":{"commit":"6dcc416a6792b8c23835f01347db0f02793a63ad","saga":"run-2.handoff","steps":[["push",{"state":"done"}],["comment",{"state":"done"}],["move",{"state":"done"}]],"turned_back":null,"heard":4,"before":null,"pull_request":null},"usage":{"input_tokens":10,"cached_input_tokens":0,"output_tokens":3,"total_tokens":13},"started_at":1795782246574,"ended_at":1795782247822}');
CREATE TABLE scopes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    session TEXT,
    epoch INTEGER NOT NULL,
    owner TEXT NOT NULL,
    head INTEGER NOT NULL,
    ended_at INTEGER
) STRICT;
INSERT INTO "scopes" VALUES(1,'["process","run-1"]',NULL,2,'54e53f6b56406d2b5f6d923aa7b28c8f',12,1795782246779);
INSERT INTO "scopes" VALUES(2,'["process","run-2"]',NULL,1,'54e53f6b56406d2b5f6d923aa7b28c8f',19,1795782247822);
INSERT INTO "scopes" VALUES(3,'["saga","run-1.handoff"]',NULL,1,'54e53f6b56406d2b5f6d923aa7b28c8f',16,1795782246775);
INSERT INTO "scopes" VALUES(4,'["saga","run-2.handoff"]',NULL,1,'54e53f6b56406d2b5f6d923aa7b28c8f',23,1795782247820);
CREATE TABLE snapshots (
    seq INTEGER PRIMARY KEY,
    format INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE TABLE tombstones (
    digest BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;
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
INSERT INTO "usage" VALUES('run-1',1,0,'DS-1',20784,NULL,'{"run":"run-1","turn":1,"place":0,"issue":"DS-1","identifier":"DS-1","session":"scripted-09d5250440367ebc","model":null,"day":20784,"usage":{"input_tokens":0,"cached_input_tokens":0,"output_tokens":0,"total_tokens":0},"cost_nanousd":null,"incomplete":true}');
INSERT INTO "usage" VALUES('run-1',2,0,'DS-1',20784,NULL,'{"run":"run-1","turn":2,"place":0,"issue":"DS-1","identifier":"DS-1","session":"scripted-09d5250440367ebc","model":null,"day":20784,"usage":{"input_tokens":12,"cached_input_tokens":0,"output_tokens":4,"total_tokens":16},"cost_nanousd":null,"incomplete":false}');
INSERT INTO "usage" VALUES('run-2',1,0,'DS-2',20784,NULL,'{"run":"run-2","turn":1,"place":0,"issue":"DS-2","identifier":"DS-2","session":"scripted-73b33b97d1187060","model":null,"day":20784,"usage":{"input_tokens":10,"cached_input_tokens":0,"output_tokens":3,"total_tokens":13},"cost_nanousd":null,"incomplete":false}');
CREATE TABLE wait_ends (
    number INTEGER PRIMARY KEY,
    scope_key TEXT NOT NULL,
    identity TEXT NOT NULL,
    terminal TEXT
) STRICT;
CREATE TABLE waits (
    scope INTEGER NOT NULL,
    identity TEXT NOT NULL,
    deadline INTEGER,
    terminal TEXT,
    PRIMARY KEY (scope, identity)
) STRICT, WITHOUT ROWID;
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
CREATE INDEX scopes_by_session ON scopes (session) WHERE session IS NOT NULL;
CREATE INDEX scopes_by_end ON scopes (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX file_batches_by_run ON file_batches (run);
CREATE INDEX file_batches_open ON file_batches (id) WHERE state = 'preparing';
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('scopes',4);
INSERT INTO "sqlite_sequence" VALUES('file_batches',1);
COMMIT;
