//! Whole pages: of a run, of an empty one, and of some that went wrong.

use super::html::tests::assert_well_formed;
use super::*;

fn lines(texts: &[&str]) -> Vec<Line> {
    texts.iter().map(|text| Line::parse(text)).collect()
}

fn of(ending: &str, texts: &[&str]) -> String {
    let page = page(&Facts {
        command: "./prog <b>&\"quoted\"",
        machine: "max, 1 CPU",
        ending,
        seconds: 1.234,
        lines: &lines(texts),
    });
    assert_well_formed(&page);
    page
}

const RUN: &[&str] = &[
    "boot cpus=1 ram_kib=524288",
    "el0 instructions=2000000",
    "exit status=0",
    "area text=00400000-00420000 rw-p 00000000 00:00 0          [heap]<script>alert(1)</script>",
    "mapping text=0000000000400000-0000000000410000  64 KiB  rw-u normal L3 4 KiB pages contiguous",
    "mapping text=0000000000410000-0000000000412000  8 KiB  rw-u normal L3 4 KiB pages",
    "stats json={\"instructions\":5,\"memory\":{\"faults_anon\":2,\"faults_cow\":1,\"folds\":1},\
     \"tables\":{\"level_3\":{\"made\":2,\"freed\":2,\"live\":0}},\"leaked_frames\":0}",
    "trace cpu=0 text=10,fault_anon,11,400000,10000,1,2bc 20,table_made,11,4000,3,0,0 \
     30,table_made,11,5000,3,0,0 40,fault_anon,11,410000,1000,1,1f4 50,fault_cow,11,411000,1000,1,c8 \
     60,table_freed,11,4000,3,0,0 70,fold,11,400000,10000,0,0",
    "traced cpu=0 kept=7 lost=0",
];

#[test]
fn a_run_is_told_whole() {
    let page = of("program exited with status 0", RUN);
    for part in [
        "program exited with status 0",
        "64 KiB as contiguous blocks",
        "anon 2",
        "cow 1",
        "fold 1",
        "<th>anon</th>\n<td>2</td>\n<td>2</td>",
        "<th>cow</th>\n<td>1</td>\n<td>1</td>",
        "cow: 1 faults, 200 to 200 instructions",
        "<th>level 3</th>\n<td>2</td>\n<td>2</td>\n<td>0</td>\n<td>2</td>",
        "<th>contiguous blocks of 64 KiB</th>\n<td>16</td>\n<td>88 %</td>",
        "prefers-color-scheme: dark",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

/// Nothing of a guest becomes markup, and nothing is fetched from elsewhere.
#[test]
fn the_page_stands_alone_and_is_not_the_guests() {
    let page = of("killed <i>", RUN);
    for part in [
        "<script", "<b>", "<i>", "http:", "https:", "url(", "@import", "src=", "href=",
    ] {
        assert!(!page.contains(part), "{part}");
    }
    assert!(page.contains("./prog &lt;b&gt;&amp;&quot;quoted&quot;"));
}

/// Nearly nothing is known of a kernel that says nothing.
#[test]
fn a_run_without_a_word_has_a_page() {
    let page = of("the machine ended before the kernel said anything", &[]);
    for part in [
        "described no space",
        "Nothing was traced of faults",
        "Nothing was traced of blocks",
        "gave no figures",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

/// A killed program has figures and a space; a kernel that dies has what it could still say.
#[test]
fn runs_that_die_have_pages() {
    let killed: Vec<_> = RUN
        .iter()
        .map(|line| match *line {
            "exit status=0" => "killed signal=11 code=SEGV_MAPERR addr=0x0 pc=0x1",
            line => line,
        })
        .collect();
    assert!(of("program killed by signal 11", &killed).contains("[heap]"));
    let bug = of("kernel bug: <oops>", &RUN[..4]);
    assert!(bug.contains("kernel bug: &lt;oops&gt;") && bug.contains("gave no figures"));
}

#[test]
fn a_damaged_trace_is_said_and_the_rest_is_shown() {
    let mut damaged = RUN.to_vec();
    damaged[7] = "trace cpu=0 text=10,fault_anon,11";
    let page = of("program exited with status 0", &damaged);
    assert!(page.contains("the trace cannot be read") && page.contains("[heap]"));
    damaged[6] = "stats json={\"cut\":";
    assert!(of("-", &damaged).contains("gave no figures"));
}
